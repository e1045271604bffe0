"""Worker of lora.py: one training step of peft's LoRA on transformers' GPT2LMHeadModel under torch."""

import contextlib
import sys

import paired
import peft
import torch
import transformers


TARGETS = {"attention": ["attn.c_attn"], "all": ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]}


def main(dtype: str, rows: int, length: int, targets: str) -> None:
    """Prepare the step and serve measurements of it."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = transformers.GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False)
    base = transformers.GPT2LMHeadModel(settings).to(device).train()
    options = peft.LoraConfig(r=8, lora_alpha=16, target_modules=TARGETS[targets], fan_in_fan_out=True)
    model = peft.get_peft_model(base, options)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens = torch.randint(0, settings.vocab_size, (rows, length + 1), device=device)
    autocast = torch.autocast(device, dtype=torch.bfloat16) if dtype == "bfloat16" else contextlib.nullcontext()

    def work() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            logits = model(tokens[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        loss.item()

    work()
    about = {"torch": torch.__version__, "peft": peft.__version__, "transformers": transformers.__version__}
    about |= {"device": device, "threads": torch.get_num_threads(), "trained": sum(one.numel() for one in trained)}
    paired.serve(work, about, torch.cuda.max_memory_allocated if device == "cuda" else paired.process_peak)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
