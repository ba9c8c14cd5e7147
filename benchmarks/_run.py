"""Ask the questions of one file, in this process, and keep what was answered if one fails."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks._measure import Question, SkipQuestion, ask
from benchmarks._rows import Missing, Row, figure, table, to_json


def main(questions: Sequence[Question]) -> None:
    """Measure what a file asks, and print it as a table.

    Command line: words that the rows must contain, ``--quick``, and ``--rows FILE``, which gets a
    line of JSON as soon as a row is known, so that a crash takes only what was not measured yet.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("word", nargs="*", help="only rows that contain each of these words")
    parser.add_argument("--quick", action="store_true", help="rough figures in an eighth of it")
    parser.add_argument("--rows", type=Path, help="also write each row to this file, as JSON")
    arguments = parser.parse_args()
    chosen = asked(questions, quick=arguments.quick, words=arguments.word)
    rows = []
    for row in answers(chosen, quick=arguments.quick):
        rows.append(row)
        if arguments.rows:
            with arguments.rows.open("a") as file:
                file.write(to_json(row) + "\n")
    if not arguments.rows:
        print(table(rows))


def asked(
    questions: Sequence[Question], *, quick: bool, words: Sequence[str] = ()
) -> list[Question]:
    """Return what such a run asks: of the rows that contain each of the words."""
    return [
        question
        for question in questions
        if (question.brief or not quick)
        and all(word in f"{question.work} {question.against}" for word in words)
    ]


def answers(questions: Sequence[Question], *, quick: bool) -> Iterator[Row]:
    """Yield a row for each question, and say on stderr which one is being measured."""
    for number, question in enumerate(questions, 1):
        start = time.perf_counter()
        row = answer(question, quick=quick)
        spent = time.perf_counter() - start
        said = row.reason if isinstance(row, Missing) else figure(row)
        size = "" if question.size is None else f" at {question.size:,.0f}"
        name = f"[{number}/{len(questions)}] {row.work}{size} | {row.against}"
        print(f"{name}: {said} ({spent:.0f} s)", file=sys.stderr)
        yield row


def answer(question: Question, *, quick: bool) -> Row:
    """Return what was measured, or why nothing was."""
    try:
        return ask(question, quick=quick)
    except SkipQuestion as skip:
        return Missing(question.work, question.against, str(skip))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return Missing(question.work, question.against, reason, failed=True)
