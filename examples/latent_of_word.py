"""The latent that is active on a word and on little else: python latent_of_word.py STORE EVENTS WORD."""

import sys
from collections import Counter

from pellucid import sae


def latent_of(store: sae.Store, events: sae.Events, word: str) -> tuple[int, float]:
    """The latent whose activity agrees best with the places of a word, and the F1 score of that agreement."""
    rows = []
    for number in range(store.samples):
        sample = store.sample(number)
        wanted = {place for place, piece in enumerate(sample.pieces) if piece.strip().lower() == word}
        if wanted:
            places = store.places(*sample.rows)
            positions = places["position"].to_pylist()
            rows += [sample.rows[0] + at for at, position in enumerate(positions) if position in wanted]
    if not rows:
        sys.exit(f"the store has no token {word!r}; give another word, in lower case.")
    hits = Counter(latent for row in rows for latent in events.at(row).tolist())
    scores = {latent: 2 * hit / (len(rows) + int(events.counts[latent])) for latent, hit in hits.items()}
    best = max(scores, key=scores.__getitem__)
    return best, scores[best]


if __name__ == "__main__":
    found, agreement = latent_of(sae.Store.open(sys.argv[1]), sae.Events.open(sys.argv[2]), sys.argv[3])
    print(found)
    print(f"F1 {agreement:.2f}", file=sys.stderr)
