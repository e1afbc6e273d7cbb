"""Assertions in the contract suite, which is not a test module by its name, are explained like any others."""

import pytest

pytest.register_assert_rewrite("contract", "store_cases")
