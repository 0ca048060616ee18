import torch

from fewshot.sampling import BalancedBatches, Batches


def test_every_epoch_holds_every_image_once_and_the_tail_joins_the_next():
    batches = Batches(torch.arange(100, 110), 4, seed=0)
    drawn = torch.cat([batches(t) for t in range(5)])
    assert sorted(drawn[:10].tolist()) == sorted(drawn[10:].tolist()) == list(range(100, 110))
    assert not torch.equal(drawn[:10], drawn[10:])
    assert torch.equal(Batches(torch.arange(100, 110), 4, seed=0)(3), drawn[12:16]), "no state from iteration to iteration"


def test_balanced_batches_are_balanced_and_draw_every_image():
    """Three classes of 50, 2 and 1 images: each class as often as the others, to within one a batch's border."""
    rows = [torch.arange(50), torch.arange(50, 52), torch.arange(52, 53)]
    batches = BalancedBatches(rows, 8, seed=0)
    drawn = torch.cat([batches(t) for t in range(300)])
    classes = torch.bucketize(drawn, torch.tensor([50, 52]), right=True)
    assert torch.bincount(classes).tolist() == [800, 800, 800]
    assert set(drawn.tolist()) == set(range(53))
    images = torch.bincount(drawn[classes == 1] - 50)
    assert 350 < images[0] < 450, "images of a class are drawn evenly"
    assert torch.equal(BalancedBatches(rows, 8, seed=0)(7), batches(7)), "no state from iteration to iteration"
    assert not torch.equal(BalancedBatches(rows, 8, seed=1)(7), batches(7))
