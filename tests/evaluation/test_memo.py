import gc

from tissue import make_sample

from metaniche.evaluation.memo import Memo


def counting():
    calls = []

    def make():
        calls.append(len(calls))
        return object()

    return calls, make


def test_the_same_samples_and_key_are_computed_once():
    memo, samples = Memo(), [make_sample("a", "p"), make_sample("b", "q")]
    calls, make = counting()
    assert memo.get("k", samples, make) is memo.get("k", list(samples), make)
    assert len(calls) == 1


def test_another_key_order_or_set_of_samples_is_another_result():
    memo, samples = Memo(), [make_sample("a", "p"), make_sample("b", "q")]
    twin = make_sample("a", "p")
    calls, make = counting()
    for key, asked in (
        ("k", samples),
        ("l", samples),
        ("k", samples[::-1]),
        ("k", samples[:1]),
        ("k", [twin, samples[1]]),
    ):
        memo.get(key, asked, make)
    assert len(calls) == 5


def test_samples_are_not_kept_alive_and_the_dead_are_not_mistaken():
    memo, (calls, make) = Memo(), counting()
    for _ in range(3):
        sample = make_sample("a", "p")
        memo.get("k", [sample], make)
        del sample
        gc.collect()
    assert len(calls) == 3
    assert all(reference() is None for _, references, _ in memo._entries for reference in references)


def test_old_results_are_forgotten():
    memo, samples = Memo(size=2), [make_sample("a", "p")]
    calls, make = counting()
    for key in "abca":
        memo.get(key, samples, make)
    assert len(calls) == 4
