"""What Slack refuses in a message, by Block Kit's documented limits."""

from __future__ import annotations

from typing import Any

#: Longer text is refused (it is cut above 40,000 without blocks; Slack advises 4,000).
MOST_TEXT = 40_000
MOST_BLOCKS = 50
MOST_SECTION_TEXT = 3000
MOST_FIELDS = 10
MOST_FIELD_TEXT = 2000
MOST_HEADER_TEXT = 150
MOST_CONTEXT_ELEMENTS = 10
MOST_BLOCK_ID = 255
#: The text of all blocks together (observed, not documented).
MOST_TEXT_IN_BLOCKS = 13_200
_BLOCK_TYPES = frozenset(
    {"section", "header", "context", "divider", "actions", "image", "rich_text", "input", "video", "file", "markdown"}
)


def check_message(body: dict[str, Any]) -> str:
    """Slack's word for what is wrong with a message; empty when nothing is."""
    text, blocks = body.get("text"), body.get("blocks")
    if not text and not blocks and not body.get("attachments"):
        return "no_text"
    if text is not None and (not isinstance(text, str) or len(text) > MOST_TEXT):
        return "msg_too_long" if isinstance(text, str) else "invalid_arguments"
    if blocks is None:
        return ""
    if not isinstance(blocks, list) or len(blocks) > MOST_BLOCKS:
        return "invalid_blocks"
    if not all(_is_block(block) for block in blocks):
        return "invalid_blocks"
    return "msg_blocks_too_long" if _text_length(blocks) > MOST_TEXT_IN_BLOCKS else ""


def _is_block(block: Any) -> bool:
    if not isinstance(block, dict) or block.get("type") not in _BLOCK_TYPES:
        return False
    if len(str(block.get("block_id") or "")) > MOST_BLOCK_ID:
        return False
    match block["type"]:
        case "section":
            return _is_section(block)
        case "header":
            return _is_text(block.get("text"), MOST_HEADER_TEXT, kinds=("plain_text",))
        case "context":
            elements = block.get("elements")
            return isinstance(elements, list) and 1 <= len(elements) <= MOST_CONTEXT_ELEMENTS
        case _:
            return True


def _is_section(block: dict[str, Any]) -> bool:
    text, fields = block.get("text"), block.get("fields")
    if text is None and not fields:
        return False
    if text is not None and not _is_text(text, MOST_SECTION_TEXT):
        return False
    if fields is None:
        return True
    return (
        isinstance(fields, list)
        and 1 <= len(fields) <= MOST_FIELDS
        and all(_is_text(one, MOST_FIELD_TEXT) for one in fields)
    )


def _is_text(value: Any, most: int, *, kinds: tuple[str, ...] = ("plain_text", "mrkdwn")) -> bool:
    if not isinstance(value, dict) or value.get("type") not in kinds:
        return False
    text = value.get("text")
    return isinstance(text, str) and 1 <= len(text) <= most


def _text_length(tree: Any) -> int:
    if isinstance(tree, dict):
        own = len(tree["text"]) if isinstance(tree.get("text"), str) else 0
        return own + sum(_text_length(value) for value in tree.values() if isinstance(value, (dict, list)))
    return sum(_text_length(value) for value in tree) if isinstance(tree, list) else 0
