"""Peak memory of one kind of work above the loaded and warmed model; run in a fresh process by the benchmark."""

import json
import sys

import pellucid
from peers import ONE_PASS, captum, integrated_gradients
from pellucid.memory import PeakMemory
from setting import ANSWER, Setting


def main(name: str) -> None:
    setting = Setting()
    setting.forward()

    def explained(method: str, target: pellucid.Target, features: str, **options: object) -> None:
        pellucid.explain(setting.model, setting.prompt, method=method, target=target, features=features, **options)

    tokens, answer = pellucid.Tokens(ANSWER), pellucid.Answer(ANSWER)
    gradients = {"method": "integrated_gradients", "features": "token", "baseline": "unk", "steps": 1}
    works = {
        "occlusion": lambda: explained("occlusion", tokens, "field"),
        "kernel_shap": lambda: explained("kernel_shap", tokens, "field", samples=48),
        "shapley": lambda: explained("permutation_shapley", tokens, "field", permutations=4),
        "ig_tokens": lambda: explained(target=tokens, **gradients),
        "ig_answer": lambda: explained(target=answer, **gradients),
        "captum_occlusion": lambda: captum(setting, "occlusion", ONE_PASS),
        "captum_ig": lambda: integrated_gradients(setting, 4, 1, None),
    }
    with PeakMemory() as memory:
        works[name]()
    print(json.dumps({"above_bytes": memory.above_bytes}))


if __name__ == "__main__":
    main(sys.argv[1])
