"""Settings of retention training."""

from rxlm.config import Config, config, require, require_bool, require_int, require_share


@config
class RetentionConfig(Config):
    """Settings of retention training.

    Fields:
        sizes: numbers of tokens S; each step draws one, so that the model serves with any.
        first_temperature, last_temperature, cooling_steps: how sharply tokens are kept: T falls from the first to the
            last, by equal factors, in so many steps. At first everything is half visible: weights learn to read while
            gates begin to choose.
        learned_share: share of the layers whose weights learn, the last ones; 0: the gates alone.
        from_scratch: whether everything learns, embeddings and head too, for a model that was not trained before.
        lora_rank: rank of the adapters that learn in place of these layers' weights, and become part of them in the
            end (LoRA); 0: the weights learn. lora_alpha: what an adapter adds is multiplied by lora_alpha / lora_rank.
        wording_weight: weight of tokens of an answer to a question that are neither its first one nor what it asks for.
        wording_share: share of such tokens, and of other reference answers, that are predicted.
        keep: weight of keeping to the language model's own distributions. keep_tokens: tokens of a microbatch at which
            they are compared.
        longest_dialogue: tokens of a dialogue, or of a window of it, from which on further turns are left out: the
            memory that a step takes grows with its square.
        history_weight: the most that such a token, or another word of a reference answer, weighs by what the history is
            worth to the language model: min(history_weight, exp(loss without history - loss with it)), as in LongCE
            (arXiv 2410.23771), which has 5. Sums are divided by numbers of tokens all the same. None: each weighs 1.
    """

    sizes: tuple[int, ...] = (64, 128)
    first_temperature: float = 1.0
    last_temperature: float = 0.15
    cooling_steps: int = 120
    learned_share: float = 1.0
    from_scratch: bool = False
    lora_rank: int = 0
    lora_alpha: int = 32
    wording_weight: float = 0.3
    wording_share: float = 0.1
    keep: float = 1.0
    keep_tokens: int = 512
    longest_dialogue: int = 1024
    history_weight: float | None = None

    def __post_init__(self) -> None:
        require_int(self, "cooling_steps", "keep_tokens", "lora_alpha", "longest_dialogue")
        require_int(self, "lora_rank", minimum=0)
        require_bool(self, "from_scratch")
        require_share(self, "learned_share", "wording_share")
        for name in ("first_temperature", "last_temperature"):
            require(getattr(self, name) > 0, f"RetentionConfig.{name} must be positive, got {getattr(self, name)}.")
        for name in ("wording_weight", "keep"):
            require(
                getattr(self, name) >= 0, f"RetentionConfig.{name} must not be negative, got {getattr(self, name)}."
            )
        require(
            self.history_weight is None or self.history_weight >= 1,
            f"RetentionConfig.history_weight must be at least 1, got {self.history_weight}.",
        )
        require(
            not self.lora_rank or self.learned_share > 0,
            f"RetentionConfig.lora_rank must be 0 where learned_share is 0 and no layer learns, got {self.lora_rank}.",
        )
        require(
            not (self.from_scratch and (self.lora_rank or self.learned_share < 1)),
            "RetentionConfig.from_scratch must be false where adapters or a share of the layers learn (lora_rank, "
            "learned_share).",
        )
        valid = (
            isinstance(self.sizes, tuple)
            and bool(self.sizes)
            and all(isinstance(each, int) and each >= 8 for each in self.sizes)
        )
        require(valid, f"RetentionConfig.sizes must be numbers of tokens of at least 8, got {self.sizes!r}.")

    def temperature(self, step: int) -> float:
        """Return T at a step."""
        progress = min(1.0, step / self.cooling_steps)
        return self.first_temperature * (self.last_temperature / self.first_temperature) ** progress
