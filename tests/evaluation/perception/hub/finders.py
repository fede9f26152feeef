"""Tiny checkpoints of detectors, segmenters and a language model, with random weights."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tests.evaluation.perception.hub.checkpoints import byte_tokenizer, save, text_config


def bert_tokenizer() -> PreTrainedTokenizerFast:
    """Letters as word pieces; [CLS], [SEP], "." and "?" have BERT's own numbers, which Grounding DINO counts on."""
    vocab = {f"[unused{index}]": index for index in range(1100)}
    fixed = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
    letters = {letter: 200 + index for index, letter in enumerate(string.ascii_lowercase + string.digits)}
    pieces = {
        f"##{letter}": 300 + index for index, letter in enumerate(string.ascii_lowercase + string.digits)
    }
    taken = fixed | letters | pieces
    vocab = {name: index for name, index in vocab.items() if index not in set(taken.values())} | taken
    tokenizer = Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 102), ("[CLS]", 101))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def grounding_dino(folder: Path) -> Path:
    """Grounding DINO: Swin, BERT, deformable attention."""
    config = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(
            image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2],
            window_size=4, out_indices=[2, 3, 4],
        ),
        text_config=transformers.BertConfig(
            vocab_size=1100, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48,
            max_position_embeddings=64,
        ),
        num_queries=8, encoder_layers=1, encoder_ffn_dim=48, encoder_attention_heads=2, decoder_layers=2,
        decoder_ffn_dim=48, decoder_attention_heads=2, d_model=32, num_feature_levels=4, max_text_len=48,
    )  # fmt: skip
    images = transformers.GroundingDinoImageProcessor(size={"shortest_edge": 96, "longest_edge": 160})
    processor = transformers.GroundingDinoProcessor(images, bert_tokenizer())
    return save(folder, transformers.GroundingDinoForObjectDetection(config), processor)


def owlv2(folder: Path) -> Path:
    """OWLv2: CLIP towers with boxes from patches."""
    tokenizer = byte_tokenizer([], model_max_length=16)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    config = transformers.Owlv2Config(
        text_config={"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48,
                     "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 16,
                     "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
        vision_config={"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
                       "num_attention_heads": 2, "image_size": 64, "patch_size": 16},
        projection_dim=32,
    )  # fmt: skip
    images = transformers.Owlv2ImageProcessor(size={"height": 64, "width": 64})
    processor = transformers.Owlv2Processor(images, tokenizer)
    return save(folder, transformers.Owlv2ForObjectDetection(config), processor)


def sam(folder: Path) -> Path:
    """SAM: images padded to a square."""
    config = transformers.SamConfig(
        vision_config={"hidden_size": 32, "output_channels": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                       "image_size": 64, "patch_size": 8, "window_size": 4, "global_attn_indexes": [0],
                       "num_pos_feats": 16, "mlp_dim": 48},
        prompt_encoder_config={"hidden_size": 32, "image_size": 64, "patch_size": 8, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 32, "mlp_dim": 48, "num_hidden_layers": 1, "num_attention_heads": 2,
                             "iou_head_depth": 2, "iou_head_hidden_dim": 16},
    )  # fmt: skip
    images = transformers.SamImageProcessor(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
    return save(folder, transformers.SamModel(config), transformers.SamProcessor(images))


def sam2(folder: Path) -> Path:
    """SAM 2: images stretched to a square, Hiera with a feature pyramid."""
    config = transformers.Sam2Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model", "hidden_size": 8, "num_attention_heads": 1,
                "image_size": [64, 64], "blocks_per_stage": [1, 1, 1, 1], "embed_dim_per_stage": [8, 16, 32, 64],
                "num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [4, 4, 4, 2],
                "global_attention_blocks": [], "window_positional_embedding_background_size": [4, 4],
            },
            "backbone_channel_list": [64, 32, 16, 8], "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            "fpn_hidden_size": 32, "fpn_top_down_levels": [2, 3], "num_feature_levels": 3,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": 64, "patch_size": 16, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 32, "mlp_dim": 48, "num_hidden_layers": 1, "num_attention_heads": 2,
                             "iou_head_depth": 2, "iou_head_hidden_dim": 16},
    )  # fmt: skip
    images = transformers.Sam2ImageProcessor(
        size={"height": 64, "width": 64}, mask_size={"height": 16, "width": 16}
    )
    return save(folder, transformers.Sam2Model(config), transformers.Sam2Processor(images))


LLM_CHAT = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"
)


def llm(folder: Path, answer: str, retried: str | None = None) -> Path:
    """A Llama that says ``answer``, or ``retried`` where its prompt holds its own earlier answer.

    Its vocabulary has both as single tokens. All layers are silent (zero) but for the token embedding, which one
    attention layer averages: the answer's token in the prompt tips the balance.
    """
    tokenizer = byte_tokenizer([])
    tokenizer.add_tokens([answer, retried or "<none>"])  # words, not special ones: they are to be read
    tokenizer.chat_template = LLM_CHAT
    config = text_config(transformers.LlamaConfig, tokenizer, tie_word_embeddings=False)
    model = transformers.LlamaForCausalLM(config)
    save(folder, model, tokenizer)
    _silence(
        model, tokenizer.convert_tokens_to_ids(answer), tokenizer.convert_tokens_to_ids(retried or "<none>")
    )
    model.save_pretrained(folder)
    return folder


@torch.no_grad()
def _silence(model: Any, first: int, second: int) -> None:
    for parameter in model.parameters():
        parameter.zero_()
    model.model.norm.weight.fill_(1.0)
    layer = model.model.layers[0]
    layer.input_layernorm.weight.fill_(1.0)
    embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
    embedding[:, 0] = 1.0  # every token says "here"
    embedding[first, 1] = 30.0  # the first answer says so, too
    layer.self_attn.v_proj.weight[:16].copy_(
        torch.eye(32)[:16]
    )  # attention is uniform: its scores are all zero
    layer.self_attn.o_proj.weight.copy_(10.0 * torch.eye(32))
    head[first, 0] = 1.0
    head[second, 0], head[second, 1] = 0.999, 20.0
