"""Worker of generate.py: greedy decoding by transformers' GPT2LMHeadModel under torch."""

import sys

import paired
import torch
import transformers


def main(dtype: str, batch: int, num_tokens: int) -> None:
    """Prepare the model and serve measurements of one call."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config()).to(device, getattr(torch, dtype)).eval()
    tokens = torch.randint(0, model.config.vocab_size, (batch, 32), device=device)
    options = {"do_sample": False, "max_new_tokens": num_tokens, "min_new_tokens": num_tokens, "pad_token_id": 0}

    def work() -> None:
        with torch.inference_mode():
            made = model.generate(tokens, attention_mask=torch.ones_like(tokens), **options)
        assert made.shape == (batch, 32 + num_tokens)

    work()
    about = {"torch": torch.__version__, "transformers": transformers.__version__, "device": device}
    about |= {"threads": torch.get_num_threads(), "attention": model.config._attn_implementation}
    paired.serve(work, about)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
