"""placeholder"""


def evaluate_held_out(*a):
    pass
