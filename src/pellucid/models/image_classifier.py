"""Classifiers of pictures."""

from pellucid.models.pictures import AbstractImageModel


class ImageClassifier(AbstractImageModel):
    """A network that gives a picture one of several labels.

    Args:
        module: takes [batch, channel, height, width] and returns logits, as a tensor or as an attribute ``logits``.
        labels: the class labels, in the order of the logits.
        preprocessing: how a picture becomes what the network reads.
        name: what to call the model in results.
        background: pictures that stand for the data, to draw absent parts and baselines from.
    """
