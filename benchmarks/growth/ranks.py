"""How a step of data-parallel training grows with the number of ranks."""

from __future__ import annotations

from torch.nn.parallel import DistributedDataParallel

from benchmarks._measure import Question
from benchmarks._run import main
from benchmarks.distributed import VECTOR, Small, in_thirds, on_ranks, step_of
from torchcreator.distributed import data_parallel


def at(ranks: int) -> Question:
    """Return the question on so many ranks."""
    return on_ranks(
        "`data_parallel`, policies by thirds",
        against="plain DDP",
        ours=lambda: step_of(data_parallel(in_thirds(Small)), VECTOR),
        theirs=lambda: step_of(DistributedDataParallel(Small()), VECTOR),
        at_most=None,
        ranks=ranks,
        seconds=9.0,
        round_seconds=0.06 * max(1, ranks / 2),
        size=ranks,
    )


QUESTIONS = [at(ranks) for ranks in (1, 2, 3, 4)]

if __name__ == "__main__":
    main(QUESTIONS)
