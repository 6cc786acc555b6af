"""A language model of made-up text, trained by `transformers.Trainer` with all of its options."""

import sys
from dataclasses import dataclass, field

import torch
from transformers import GPT2Config, GPT2LMHeadModel, HfArgumentParser, Trainer, TrainingArguments, set_seed


@dataclass
class ModelArguments:
    """The model, which is made from scratch."""

    layers: int = field(default=1, metadata={"help": "number of blocks"})
    width: int = field(default=32, metadata={"help": "features of a token"})
    dropout: float = field(default=0.0)


class Text(torch.utils.data.Dataset):
    """Sequences that count up from a random token by a random stride."""

    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        start = torch.randint(0, 50, (count, 1), generator=generator)
        stride = torch.randint(1, 4, (count, 1), generator=generator)
        self.tokens = (start + stride * torch.arange(16)) % 50

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


def main():
    parser = HfArgumentParser((ModelArguments, TrainingArguments))
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        model_args, args = parser.parse_json_file(json_file=sys.argv[1])
    else:
        model_args, args = parser.parse_args_into_dataclasses()
    set_seed(args.seed)
    drop = model_args.dropout
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=50,
            n_positions=16,
            n_embd=model_args.width,
            n_layer=model_args.layers,
            n_head=2,
            resid_pdrop=drop,
            embd_pdrop=drop,
            attn_pdrop=drop,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    trainer = Trainer(model=model, args=args, train_dataset=Text(512, 1), eval_dataset=Text(128, 2))
    if args.do_train:
        trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
        trainer.save_model()
        trainer.save_state()
    if args.do_eval:
        trainer.save_metrics("eval", trainer.evaluate())


if __name__ == "__main__":
    main()
