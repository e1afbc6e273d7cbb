"""What Slack refuses in a message, by Block Kit's documented limits (docs.slack.dev: Block Kit, reference)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

#: Longer text is refused (it is cut above 40,000 without blocks; Slack advises 4,000).
MOST_TEXT = 40_000
MOST_BLOCKS = 50
MOST_SECTION_TEXT = 3000
MOST_FIELDS = 10
MOST_FIELD_TEXT = 2000
MOST_HEADER_TEXT = 150
MOST_CONTEXT_ELEMENTS = 10
MOST_ACTIONS = 25
MOST_BUTTON_TEXT = 75
MOST_BUTTON_VALUE = 2000
MOST_URL = 3000
MOST_ALT_TEXT = 2000
MOST_ID = 255
#: The text of all ``markdown`` blocks together.
MOST_MARKDOWN = 12_000
#: The text of all blocks together, where each block but the first counts as so many characters. Slack documents
#: neither (slackapi/bolt-js, issue 2509).
MOST_TEXT_IN_BLOCKS, BLOCK_COST = 13_200, 125
_BLOCK_TYPES = frozenset(
    {"section", "header", "context", "divider", "actions", "image", "rich_text", "input", "video", "file", "markdown"}
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why Slack refuses a message: its error code, and what it says in ``response_metadata``."""

    code: str
    messages: tuple[str, ...] = ()


def check_message(body: dict[str, Any]) -> Problem | None:
    """What is wrong with a message, or None."""
    text, blocks = body.get("text"), body.get("blocks")
    if not text and not blocks and not body.get("attachments"):
        return Problem("no_text")
    if text is not None and (not isinstance(text, str) or len(text) > MOST_TEXT):
        return Problem("msg_too_long" if isinstance(text, str) else "invalid_arguments")
    if blocks is None:
        return None
    if not isinstance(blocks, list):
        return Problem("invalid_blocks_format")
    if messages := tuple(f"[ERROR] {what} [json-pointer:{where}]" for where, what in _problems(blocks)):
        return Problem("invalid_blocks", messages)
    length = _text_length(blocks) + BLOCK_COST * (len(blocks) - 1)
    return Problem("msg_blocks_too_long") if length > MOST_TEXT_IN_BLOCKS else None


def _problems(blocks: list[Any]) -> Iterator[tuple[str, str]]:
    """Each with its place in the message."""
    if len(blocks) > MOST_BLOCKS:
        yield "/blocks", f"no more than {MOST_BLOCKS} items allowed"
    markdown = 0
    for number, block in enumerate(blocks):
        where = f"/blocks/{number}"
        if not isinstance(block, dict) or block.get("type") not in _BLOCK_TYPES:
            yield f"{where}/type", "unsupported type"
            continue
        yield from _string(block, where, "block_id", MOST_ID, needed=False)
        yield from _of_block(block, where)
        if block["type"] == "markdown" and isinstance(block.get("text"), str):
            markdown += len(block["text"])
    if markdown > MOST_MARKDOWN:
        yield "/blocks", f"must be less than {MOST_MARKDOWN + 1} characters in all markdown blocks"


def _of_block(block: dict[str, Any], where: str) -> Iterator[tuple[str, str]]:
    match block["type"]:
        case "section":
            yield from _of_section(block, where)
        case "header":
            yield from _text(block, where, "text", MOST_HEADER_TEXT, kinds=("plain_text",))
        case "markdown":
            yield from _string(block, where, "text", MOST_MARKDOWN)
        case "image":
            yield from _of_image(block, where)
        case "context":
            yield from _of_elements(block, where, MOST_CONTEXT_ELEMENTS)
        case "actions":
            yield from _of_elements(block, where, MOST_ACTIONS)


def _of_section(block: dict[str, Any], where: str) -> Iterator[tuple[str, str]]:
    fields = block.get("fields")
    if "text" in block or fields is None:
        yield from _text(block, where, "text", MOST_SECTION_TEXT)
    if fields is not None:
        if not isinstance(fields, list) or not 1 <= len(fields) <= MOST_FIELDS:
            yield f"{where}/fields", f"must have from 1 to {MOST_FIELDS} items"
            return
        for number in range(len(fields)):
            yield from _text(fields, f"{where}/fields", number, MOST_FIELD_TEXT)
    if isinstance(block.get("accessory"), dict):
        yield from _of_element(block["accessory"], f"{where}/accessory")


def _of_elements(block: dict[str, Any], where: str, most: int) -> Iterator[tuple[str, str]]:
    elements = block.get("elements")
    if not isinstance(elements, list) or not 1 <= len(elements) <= most:
        yield f"{where}/elements", f"must have from 1 to {most} items"
        return
    for number, element in enumerate(elements):
        place = f"{where}/elements/{number}"
        if isinstance(element, dict) and element.get("type") in ("mrkdwn", "plain_text"):
            yield from _text(elements, f"{where}/elements", number, MOST_SECTION_TEXT)
        elif isinstance(element, dict):
            yield from _of_element(element, place)
        else:
            yield place, "must be an object"


def _of_element(element: dict[str, Any], where: str) -> Iterator[tuple[str, str]]:
    yield from _string(element, where, "action_id", MOST_ID, needed=False)
    if element.get("type") == "image":
        yield from _of_image(element, where)
    if element.get("type") == "button":
        yield from _text(element, where, "text", MOST_BUTTON_TEXT, kinds=("plain_text",))
        yield from _string(element, where, "url", MOST_URL, needed=False)
        yield from _string(element, where, "value", MOST_BUTTON_VALUE, needed=False)


def _of_image(image: dict[str, Any], where: str) -> Iterator[tuple[str, str]]:
    yield from _string(image, where, "alt_text", MOST_ALT_TEXT)
    if "slack_file" not in image:
        yield from _string(image, where, "image_url", MOST_URL)


def _text(
    holder: Any, where: str, key: str | int, most: int, *, kinds: tuple[str, ...] = ("plain_text", "mrkdwn")
) -> Iterator[tuple[str, str]]:
    """A text object."""
    place = f"{where}/{key}"
    value = holder.get(key) if isinstance(holder, dict) else holder[key]
    if not isinstance(value, dict) or value.get("type") not in kinds:
        yield place, f"must be a text object of type {' or '.join(kinds)}"
        return
    yield from _string(value, place, "text", most)


def _string(
    holder: dict[str, Any], where: str, key: str, most: int, *, needed: bool = True
) -> Iterator[tuple[str, str]]:
    value = holder.get(key)
    if value is None and not needed:
        return
    if not isinstance(value, str):
        yield f"{where}/{key}", "must be a string"
    elif not value.strip() and needed:
        yield f"{where}/{key}", "must be more than 0 characters"
    elif len(value) > most:
        yield f"{where}/{key}", f"must be less than {most + 1} characters"


def _text_length(tree: Any) -> int:
    if isinstance(tree, dict):
        own = len(tree["text"]) if isinstance(tree.get("text"), str) else 0
        return own + sum(_text_length(value) for value in tree.values() if isinstance(value, (dict, list)))
    return sum(_text_length(value) for value in tree) if isinstance(tree, list) else 0
