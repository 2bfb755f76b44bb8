"""Teaches replaced layers what the layers they replaced said, one layer at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from syncattn import _validation as check
from syncattn._typing import Float, Tensor
from syncattn.models.convert import ConvertedAttention


def distill(
    model: PreTrainedModel,
    original: PreTrainedModel,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    learning_rate: float = 1e-3,
    whole_layers: bool = True,
) -> dict[str, list[float]]:
    r"""Trains the replaced layers of a network to say what the original ones said.

    The original network reads each batch; every replaced layer gets what the layer in its place
    got there, masks included, and learns its output. Layers do not wait for each other and see no
    errors of layers below. The loss is the mean squared error over the real tokens divided by the
    mean square of the target: 1 is what silence would have.

    Args:
        model: A network that `convert` changed; its replaced layers are trained in place.
        original: The same network before, for instance a `copy.deepcopy`.
        batches: Arguments of the networks, such as `input_ids` and `attention_mask`; one step of
            Adam each.
        learning_rate: Of Adam, the same in every step.
        whole_layers: Whether weights that were kept learn too; False trains only what is new.

    Returns:
        The loss of every step by the name of the layer.

    Raises:
        TypeError: If `learning_rate` is not a number, a network none of Transformers, or a batch
            no mapping.
        ValueError: If it is not positive, no layer of `model` was replaced or all of them are
            frozen, `original` has no layers of these names or is `model`, or there is no batch.
    """
    check.require_number(learning_rate, "learning_rate", minimum=0.0, exclusive=True)
    for name, network in (("model", model), ("original", original)):
        check.require_instance(network, name, PreTrainedModel, "Pass a network of Transformers.")
    pupils = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, ConvertedAttention)
    }
    teachers = dict(original.named_modules())
    if original is model:
        raise ValueError(
            "`original` must be another network than `model`; got the same one. Copy the network "
            "with copy.deepcopy, convert the copy, and pass both."
        )
    if not pupils or not pupils.keys() <= teachers.keys():
        shared = len(pupils.keys() & teachers.keys())
        raise ValueError(
            f"`model` must hold layers that `convert` replaced in a copy of `original`; got "
            f"{len(pupils)} replaced layers, {shared} of them in both. "
            f"Copy the network, convert the copy, and pass both."
        )
    parameters = [
        parameter
        for layer in pupils.values()
        for name, parameter in layer.named_parameters()
        if parameter.requires_grad and (whole_layers or not _was_kept(layer, name))
    ]
    if not parameters:
        frozen = not any(p.requires_grad for layer in pupils.values() for p in layer.parameters())
        raise ValueError(
            f"`model` must have parameters to train in its {len(pupils)} replaced layers; got "
            f"{'frozen ones. Call `requires_grad_()`.' if frozen else 'kept ones alone. '}"
            f"{'' if frozen else 'Pass whole_layers=True.'}"
        )
    given: Any = batches
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise TypeError(
            f"`batches` must be several batches, one after the other; got "
            f"{type(batches).__name__}. Pass a list of dicts."
        )
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    losses: dict[str, list[float]] = {name: [] for name in pupils}
    for batch in batches:
        check.require_instance(batch, "batches", Mapping, "Pass dicts such as {'input_ids': ids}.")
        heard = _listen(original, {name: teachers[name] for name in pupils}, batch)
        real = _real_tokens(batch)
        total = torch.zeros((), device=model.device)
        for name, layer in pupils.items():
            arguments, options, target = heard[name]
            with torch.enable_grad():
                out, _ = layer(*arguments, **options)
                loss = _relative_error(out, target, real)
                total = total + loss
            losses[name].append(loss.item())
        # Not `backward`, which would leave gradients on what is kept.
        found = torch.autograd.grad(total, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, found, strict=True):
            parameter.grad = gradient
        optimizer.step()
        optimizer.zero_grad()
    if not any(losses.values()):
        raise ValueError(
            "`batches` must hold at least one batch; got none. An iterator is empty once it was "
            "read: pass a list, or make it anew."
        )
    return losses


def _was_kept(layer: ConvertedAttention, parameter: str) -> bool:
    return parameter.removeprefix("attention.").startswith(layer.kept)


@torch.no_grad()
def _listen(
    network: PreTrainedModel, layers: dict[str, nn.Module], batch: Mapping[str, Tensor]
) -> dict[str, tuple[tuple[Any, ...], dict[str, Any], Tensor]]:
    """Returns what every layer got and said while the network read a batch."""
    heard: dict[str, tuple[tuple[Any, ...], dict[str, Any], Tensor]] = {}

    def hook(name: str) -> Any:
        def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            heard[name] = (args, kwargs, out[0])

        return note

    handles = [
        layer.register_forward_hook(hook(name), with_kwargs=True) for name, layer in layers.items()
    ]
    was_training = network.training
    network.eval()
    options: dict[str, Any] = {"use_cache": False} if _knows_cache(network) else {}
    try:
        network(**{k: _there(v, network) for k, v in batch.items() if k != "labels"}, **options)
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return heard


def _there(value: Any, network: PreTrainedModel) -> Any:
    return value.to(network.device) if isinstance(value, torch.Tensor) else value


def _knows_cache(network: PreTrainedModel) -> bool:
    return getattr(network.config, "use_cache", None) is not None


def _real_tokens(batch: Mapping[str, Tensor]) -> Tensor | None:
    mask = batch.get("attention_mask")
    if mask is not None and not bool(mask.any()):
        raise ValueError(
            "`batches` must have real tokens; got a batch whose `attention_mask` is 0 everywhere. "
            "Leave it out."
        )
    return None if mask is None else mask.bool()


def _relative_error(
    out: Float[Tensor, "batch length width"],
    target: Float[Tensor, "batch length width"],
    real: Tensor | None,
) -> Float[Tensor, ""]:
    out, target = out.float(), target.float()
    if real is not None:
        real = real.to(out.device)
        out, target = out[real], target[real]
    return (out - target).square().mean() / target.square().mean().clamp(min=1e-12)
