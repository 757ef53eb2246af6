"""Peak memory of one work above the model after a plain forward pass; run in a fresh process by the benchmark."""

import json
import sys

import pellucid
from pellucid.memory import PeakMemory
from relevance_networks import subject


def main(network: str, work: str, device: str) -> None:
    asked = subject(network, device)
    asked.forward()
    run = asked.work(work)
    try:
        with PeakMemory() as memory:
            run()
    except pellucid.PellucidError as error:
        print(json.dumps({"refused": str(error)}))
        return
    print(json.dumps({"above_bytes": memory.gpu_bytes if device == "cuda" else memory.above_bytes}))


if __name__ == "__main__":
    main(*sys.argv[1:])
