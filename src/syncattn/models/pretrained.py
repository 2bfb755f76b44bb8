"""Loading, saving and initial values, shared by every network of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import PreTrainedModel

from syncattn.models.blocks import ATTENTIONS
from syncattn.models.configuration import SyncAttnConfig
from syncattn.nn.phase_features import PhaseFeatures

EMBEDDING_STD = 0.02
"""Standard deviation of the embeddings of a Euclidean stream."""
WHEREABOUTS = ("subfolder", "revision", "cache_dir", "token", "local_files_only", "force_download")
"""What `from_pretrained` takes to find a file."""
INITIALIZED = (nn.Linear, nn.RMSNorm, nn.Embedding, PhaseFeatures, *ATTENTIONS.values())
"""Modules whose initial values are set here; what else holds parameters is a part of one."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


class SyncAttnPreTrainedModel(PreTrainedModel):
    """Loading, saving and initial values, shared by all networks of ours."""

    config_class = SyncAttnConfig
    config: SyncAttnConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["EuclideanBlock", "PhaseBlock"]  # noqa: RUF012

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any
    ) -> Any:
        """Returns the network of a checkpoint in safetensors, without running code of it.

        Args:
            pretrained_model_name_or_path: A folder, or a name on the Hub.
            *model_args: See `PreTrainedModel.from_pretrained`.
            **kwargs: See `PreTrainedModel.from_pretrained`.

        Returns:
            The network, in evaluation mode.

        Raises:
            ValueError: If the weights are a pickle, if code of the repository would run, or if a
                configuration of another mechanism is given.
        """
        if kwargs.get("trust_remote_code"):
            raise ValueError(
                "`trust_remote_code` must be left out: this package holds the code of its models; "
                "got True, which would run code of the repository. Drop it."
            )
        if kwargs.get("use_safetensors") is False:
            raise ValueError(
                "`use_safetensors` must not be False: reading a pickle can run code; got False. "
                "Save the weights with save_pretrained, which writes safetensors."
            )
        if pretrained_model_name_or_path is not None:
            folder = Path(pretrained_model_name_or_path) / kwargs.get("subfolder", "")
            _require_safetensors(folder)
            _require_same_mechanism(pretrained_model_name_or_path, kwargs)
        kwargs["use_safetensors"] = True
        return super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)

    def _initialize_weights(self, module: nn.Module, *_: Any, **__: Any) -> None:
        # For code outside of Transformers this would pass over a module whose own tensors were
        # loaded. Ours knows what was, and draws the lost tensors of a module's parts too.
        super()._initialize_weights(module)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Sets the initial values of one module, children first; what was loaded stays."""
        if not isinstance(module, INITIALIZED):
            return
        tensors = (*module.parameters(), *module.buffers())
        loaded = [x for x in tensors if getattr(x, "_is_hf_initialized", False)]
        if len(loaded) == len(tensors):
            return
        # Drawing takes all of a module at once, whichever of its parameters the file lacks.
        values = [x.clone() for x in loaded]
        self._draw(module)
        for x, value in zip(loaded, values, strict=True):
            x.copy_(value)

    def _draw(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            std = self.config.initializer_range or module.in_features**-0.5
            if getattr(module, "_adds_to_stream", False):
                std *= (2 * self.config.num_hidden_layers) ** -0.5
                if not self.config.on_torus and self.config.initializer_range is None:
                    # Additions as large as the embeddings drown the tokens in noise: the loss then
                    # falls faster without any attention than with it.
                    std = min(std, EMBEDDING_STD / 10)
            if getattr(module, "_gives_phases", False):
                std *= self.config.phase_embedding_std
            module.weight.normal_(std=std)
            if module.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
                module.bias.zero_()
        elif isinstance(module, nn.RMSNorm):
            module.weight.fill_(1.0)
        elif isinstance(module, nn.Embedding):
            torus = self.config.on_torus
            module.weight.normal_(std=self.config.phase_embedding_std if torus else EMBEDDING_STD)
        elif hasattr(module, "reset_parameters"):
            # Attention draws all that it holds, in one go; softmax has maps alone.
            module.reset_parameters()  # pyright: ignore[reportCallIssue]


def _require_safetensors(folder: Path) -> None:
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ValueError(
            f"The weights must be in safetensors; got {pickles[0]!r} in {str(folder)!r}, a pickle, "
            f"which can run code when it is read. Save them again with save_pretrained."
        )


def _require_same_mechanism(source: Any, options: dict[str, Any]) -> None:
    where = {name: options[name] for name in WHEREABOUTS if name in options}
    saved: dict[str, Any] = SyncAttnConfig.get_config_dict(source, **where)[0]
    if not saved:
        # Without a configuration there is nothing to compare; what is missing is said later.
        return
    if saved.get("model_type") != SyncAttnConfig.model_type:
        raise ValueError(
            f"The checkpoint must be of a network of this package; got one of type "
            f"{saved.get('model_type')!r}. Load it with the class of that type, or with "
            f"syncattn.load_converted if `convert` made it."
        )
    given = options.get("config")
    asked = getattr(given, "mechanism", None) or options.get("mechanism")
    if asked is not None and saved.get("mechanism") != asked:
        raise ValueError(
            f"The checkpoint must be of the mechanism asked for; got one of "
            f"{saved.get('mechanism')!r} and {asked!r}. Their weights mean different things: leave "
            f"`config` and `mechanism` out."
        )
