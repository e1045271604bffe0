"""Worker of step.py: one training step of transformers' GPT2LMHeadModel under torch, AdamW, clipping at 1.0."""

import contextlib
import sys

import paired
import torch
import transformers


def main(dtype: str, rows: int, length: int, *, compiled: bool) -> None:
    """Prepare the step and serve measurements of it."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = transformers.GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False)
    model = transformers.GPT2LMHeadModel(settings).to(device).train()
    forward = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens = torch.randint(0, settings.vocab_size, (rows, length + 1), device=device)
    autocast = torch.autocast(device, dtype=torch.bfloat16) if dtype == "bfloat16" else contextlib.nullcontext()

    def work() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            logits = forward(tokens[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()

    work()
    about = {"torch": torch.__version__, "transformers": transformers.__version__, "device": device}
    about |= {"threads": torch.get_num_threads(), "attention": model.config._attn_implementation, "compiled": compiled}
    paired.serve(work, about, torch.cuda.max_memory_allocated if device == "cuda" else paired.process_peak)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), compiled=sys.argv[4:] == ["compiled"])
