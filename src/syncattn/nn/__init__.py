"""The modules: an operator with learned projections."""

from syncattn.nn.block import EuclideanBlock, PhaseBlock
from syncattn.nn.coupling_kernel import Coefficient, CouplingKernel
from syncattn.nn.feedforward import MeanFieldCoupling, PhaseSwiGLU, SwiGLU
from syncattn.nn.frustrated_synchronization import FrustratedSynchronization
from syncattn.nn.kuramoto_attention import KuramotoAttention
from syncattn.nn.locking import locking_loss
from syncattn.nn.oscillator_attention import OscillatorAttention, OscillatorCouplings
from syncattn.nn.osn import OscillatorySynchronizationBlock, OscillatorySynchronizationNetwork
from syncattn.nn.phase_features import PhaseFeatures
from syncattn.nn.selective_checkpoint import read_author_state_dict
from syncattn.nn.selective_synchronization import SelectiveSynchronization
from syncattn.nn.softmax import SoftmaxAttention
from syncattn.nn.synchrony import Synchrony

__all__ = [
    "Coefficient",
    "CouplingKernel",
    "EuclideanBlock",
    "FrustratedSynchronization",
    "KuramotoAttention",
    "MeanFieldCoupling",
    "OscillatorAttention",
    "OscillatorCouplings",
    "OscillatorySynchronizationBlock",
    "OscillatorySynchronizationNetwork",
    "PhaseBlock",
    "PhaseFeatures",
    "PhaseSwiGLU",
    "SelectiveSynchronization",
    "SoftmaxAttention",
    "SwiGLU",
    "Synchrony",
    "locking_loss",
    "read_author_state_dict",
]
