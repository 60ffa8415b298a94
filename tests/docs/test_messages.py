"""The page of all messages has each error that the package raises, whoever writes a new one."""

from __future__ import annotations

import ast

from scripts import error_page

HANDED_ON = [
    # Each hands on the text of an error that was raised elsewhere, and is on the page.
    "operators/checks.py: ValueError",
    "operators/errors.py: AirflowSkipException",
    "operators/errors.py: AirflowFailException",
    "operators/errors.py: AirflowFailException",
]


def test_the_page_of_all_messages_is_what_the_sources_raise() -> None:
    assert error_page.PAGE.read_text() == error_page.render()


def test_no_error_is_raised_whose_message_the_page_cannot_have() -> None:
    found, unread = error_page.find_messages()
    assert unread == HANDED_ON
    assert len(found) > 350


def read(source: str) -> list[tuple[str, list[str]]]:
    tree = ast.parse(source)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return list(error_page.read_file(tree, error_page.read_kinds(), functions))


def test_a_message_is_read_wherever_its_text_is_made() -> None:
    assert read("raise ValueError(f'{name} is {value!r}; expected a name')") == [
        ("ValueError", ["… is …; expected a name"])
    ]
    assert read("TEXT = 'no such table'\ndef f():\n    raise WarehouseRefused(TEXT)") == [
        ("WarehouseRefused", ["no such table"])
    ]
    assert read("def f():\n    return f'{x} is gone'\ndef g():\n    raise ValueError(f())") == [
        ("ValueError", ["… is gone"])
    ]
    assert read("def f():\n    said = f'{x} is gone'\n    raise ValueError(f'{said}. Restore it')") == [
        ("ValueError", ["… is gone. Restore it"])
    ]
    assert read("refused = ((CODE, '{stream} is gone'),)") == [("DestinationRefused", ["… is gone"])]


def test_a_message_that_cannot_be_read_is_reported() -> None:
    assert read("raise ValueError(str(error))") == [("ValueError", [])]


def test_the_page_says_whether_a_retry_helps() -> None:
    page = error_page.PAGE.read_text()
    assert "| `sql is empty; expected a SELECT that returns one row per member` | no |" in page
    assert "| `the ledger in schema … cannot be read: …` | yes |" in page
