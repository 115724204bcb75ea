from train.trainer import EpochSampler


def orders(sampler, epochs):
    found = []
    for epoch in epochs:
        sampler.set_epoch(epoch)
        found.append(list(sampler))
    return found


def sampler(seed=3, **options):
    return EpochSampler(
        data_source=range(20), mini_repeat_count=2, batch_size=4, seed=seed, **options
    )


def test_an_epochs_order_does_not_depend_on_the_epochs_before_it():
    whole = orders(sampler(), range(4))
    assert orders(sampler(), [2, 3]) == whole[2:]
    assert len({tuple(order) for order in whole}) == 4
    assert orders(sampler(seed=4), [0]) != whole[:1]


def test_groups_stay_together_and_every_question_comes_once():
    (order,) = orders(sampler(), [1])
    assert order[::2] == order[1::2]
    assert sorted(order[::2]) == list(range(20))


def test_without_shuffling_the_order_is_the_datasets():
    assert orders(sampler(shuffle=False), [0, 5]) == [sorted([*range(20)] * 2)] * 2
