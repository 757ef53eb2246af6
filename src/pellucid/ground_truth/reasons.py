"""Why methods miss a truth on principle: the known failures, named once."""

LEAVE_ONE_OUT = "taking one feature away shows nothing of what another one covers, and counts what two share twice"
LOCAL = "the slope at the input says nothing of the way from the baseline to it"
PATH = "the straight path from baseline to input asks about inputs that no coalition holds"
SEMIVALUE = "the mean over all coalitions weighs their sizes otherwise than Shapley's, and does not sum to f(x) - f(b)"
FIT = "the coefficient of a linear fit is no contribution where features interact"
OTHER_BASELINE = "its baseline is fixed at zero, which is not the one that this truth holds under"
NOISE = "its own standard errors are as large as the scores"
RANDOM_WORDS = "its baselines are random words, and this truth holds under the mask"
ATTENDED = (
    "attention tells where the network looked, and its gradient what more of that would do: neither is a contribution, "
    "and a positive part alone loses what is saturated"
)
INSIDE = (
    "relevance tells what the output came from inside this network; what the output would be without a feature it does "
    "not ask, and no baseline enters"
)
LEARNED = (
    "a network that learned scores of other texts and models guesses the relative size of what it was taught; it asks "
    "this model no coalition, and its scores sum to nothing"
)
LAYER_MAP = (
    "it draws the activations of one late layer, whose places are coarser than the features or hold what the layers "
    "below have mixed already"
)
GUIDED = (
    "it lets only positive signals back through a ReLU, so that what two of them cancel stays: it draws the input, "
    "whatever is asked"
)
RESCALED = "one slope for each unit, from baseline to input, is no integral over the whole network's path"
HALVED = (
    "the mean output with a feature, less that of all masks, is half of Banzhaf's value, on a picture that of whole "
    "blobs; and its own standard errors are large"
)
OF_METHODS = {
    "rise": HALVED,
    "deeplift": RESCALED,
    "guided_backprop": GUIDED,
    "grad_cam": LAYER_MAP,
    "grad_cam_plus_plus": LAYER_MAP,
    "layer_cam": LAYER_MAP,
}
"""Methods that answer a question of their own everywhere."""
OF_FAMILIES = {"relevance": INSIDE, "attention": ATTENDED, "learned": LEARNED}
"""Why all methods of a family may miss a truth."""
