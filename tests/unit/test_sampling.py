import torch

from fewshot.sampling import Batches


def test_every_epoch_holds_every_image_once_and_the_tail_joins_the_next():
    batches = Batches(torch.arange(100, 110), 4, seed=0)
    drawn = torch.cat([batches(t) for t in range(5)])
    assert sorted(drawn[:10].tolist()) == sorted(drawn[10:].tolist()) == list(range(100, 110))
    assert not torch.equal(drawn[:10], drawn[10:])
    assert torch.equal(Batches(torch.arange(100, 110), 4, seed=0)(3), drawn[12:16]), "no state from iteration to iteration"
