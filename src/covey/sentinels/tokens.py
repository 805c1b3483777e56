"""The tokens trained are the tokens sampled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from covey.sentinels.sentinel import Finding, Level, Sentinel
from covey.types import Episode, Group, Sample, StopReason, Update


@dataclass(kw_only=True)
class Tokens(Sentinel):
    """Holds each trained sample against its recorded episode: the chosen tokens' ids in order, how many
    there are, and their ``sampler_logp``; and that exactly the episodes that may be trained on were."""

    name: ClassVar[str] = "tokens"
    level: ClassVar[Level] = "stop"

    def learned(self, step: int, groups: Sequence[Group], update: Update) -> Finding | None:
        if not update.samples:
            return None
        masked = self.setting.truncated == "masked"
        wrong = list(_differences(groups, update.samples, masked=masked))
        if not wrong:
            return None
        return Finding(
            f"what was trained is not what was sampled, in {len(wrong)} of {len(update.samples)} samples",
            "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""),
            "text was tokenized again on the way to the learner, tokens were cut or padded, the loss mask is "
            "shifted, or samples were filtered or mixed up after sampling",
            "carry token ids from the engine to the learner unchanged; exclude whole groups before the "
            "record is written, never after",
        )


def _differences(
    groups: Sequence[Group], samples: Sequence[Sample], *, masked: bool = False
) -> Iterator[str]:
    """One message for each sample, or missing sample, that isn't as it should be. ``masked``: episodes that
    were cut off are not to be trained on."""
    due = {
        (i, e.sample): e
        for i, g in enumerate(groups)
        if g.excluded is None
        for e, score in zip(g.episodes, g.scores, strict=True)
        if score.value is not None and not (masked and e.stop is StopReason.LENGTH)
    }
    for sample in samples:
        place = (sample.group, sample.sample)
        name = f"group {sample.group} sample {sample.sample}"
        episode = due.pop(place, None)
        if episode is None:
            yield f"{name} was trained though it is excluded, unscored, not there, or there twice"
        elif (difference := _difference(sample, episode)) is not None:
            yield f"{name}: {difference}"
    for group, sample in due:
        yield f"group {group} sample {sample} was left out"


def _difference(sample: Sample, episode: Episode) -> str | None:
    for column in ("weight", "logp", "sampler_logp"):
        count = len(getattr(sample, column))
        if count != episode.chosen:
            return f"{count} values of {column} for {episode.chosen} sampled tokens"
    chosen = episode.chosen_ids
    # a learner may leave them out: then only their number is known
    if sample.token_ids and sample.token_ids != chosen:
        at = next((i for i, (a, b) in enumerate(zip(sample.token_ids, chosen, strict=False)) if a != b), -1)
        if at < 0:
            return f"{len(sample.token_ids)} tokens were trained for {len(chosen)} sampled ones"
        return f"token {at} is {sample.token_ids[at]}, sampled was {chosen[at]}"
    if sample.sampler_logp != episode.sampler_logp:
        return "its sampler_logp are not those the engine reported"
    return None
