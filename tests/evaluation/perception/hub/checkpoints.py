"""Tiny checkpoints of the real classes with random weights, saved to folders as the real ones are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

IMAGE_SIDE = 28


def byte_tokenizer(specials: list[str], **kwargs: Any) -> PreTrainedTokenizerFast:
    """Words of a small vocabulary and bytes for all else; specials first, "</s>" ends and "<s>" begins."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<pad>", "<s>", "</s>", "<unk>", *specials, *alphabet]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        **kwargs,
    )
    fast.add_special_tokens({"additional_special_tokens": specials})
    return fast


CHAT = (
    "{% for message in messages %}User: {% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def text_config(kind: type, tokenizer: Any, **more: Any) -> Any:
    """A decoder of two small layers for a tokenizer."""
    return kind(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **more,
    )


def save(folder: Path, model: Any, processor: Any) -> Path:
    """Weights (drawn wide enough that answers differ between images) and processor files."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.25, generator=generator)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def smolvlm(folder: Path) -> Path:
    """SmolVLM: tiles of an image, pixel shuffle, Llama."""
    specials = ["<fake_token_around_image>", "<image>", "<global-img>", "<end_of_utterance>"]
    specials += [f"<row_{r}_col_{c}>" for r in range(1, 4) for c in range(1, 4)]
    tokenizer = byte_tokenizer(specials)
    config = transformers.SmolVLMConfig(
        text_config=text_config(transformers.LlamaConfig, tokenizer),
        vision_config={"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
                       "num_attention_heads": 4, "image_size": 32, "patch_size": 8},
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    images = transformers.SmolVLMImageProcessor(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}
    )
    processor = transformers.SmolVLMProcessor(
        images,
        tokenizer,
        transformers.SmolVLMVideoProcessor(
            size={"longest_edge": 64},
            max_image_size={"longest_edge": 32},
            num_frames=2,
            fps=1,
            video_sampling={"fps": 1, "max_frames": 2, "video_size": {"longest_edge": 64}},
        ),
        image_seq_len=4,
        chat_template=CHAT.replace("IMAGE", "<image>"),
    )
    return save(folder, transformers.SmolVLMForConditionalGeneration(config), processor)


def idefics3(folder: Path) -> Path:
    """The class of the first SmolVLM checkpoints."""
    specials = ["<fake_token_around_image>", "<image>", "<global-img>", "<end_of_utterance>"]
    specials += [f"<row_{r}_col_{c}>" for r in range(1, 4) for c in range(1, 4)]
    tokenizer = byte_tokenizer(specials)
    config = transformers.Idefics3Config(
        text_config=text_config(transformers.LlamaConfig, tokenizer),
        vision_config={"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
                       "num_attention_heads": 4, "image_size": 32, "patch_size": 8},
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    images = transformers.Idefics3ImageProcessor(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}
    )
    processor = transformers.Idefics3Processor(
        images, tokenizer, image_seq_len=4, chat_template=CHAT.replace("IMAGE", "<image>")
    )
    return save(folder, transformers.Idefics3ForConditionalGeneration(config), processor)


def _qwen(folder: Path, kind: str) -> Path:
    specials = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    tokenizer = byte_tokenizer(specials)
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in specials}
    is_2_5 = kind == "Qwen2_5_VL"
    vision: dict[str, Any] = (
        {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32,
         "patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]}
        if is_2_5
        else {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14}
    )  # fmt: skip
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        "pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(
        text_config=text, vision_config=vision,
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    size = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 16}
    processor = getattr(transformers, f"{kind}Processor")(
        transformers.Qwen2VLImageProcessor(size=size),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(size=size),
        chat_template=CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return save(folder, getattr(transformers, f"{kind}ForConditionalGeneration")(config), processor)


def qwen2_vl(folder: Path) -> Path:
    """Qwen2-VL: as many image tokens as the image is large, three-axis positions."""
    return _qwen(folder, "Qwen2VL")


def qwen2_5_vl(folder: Path) -> Path:
    """Qwen2.5-VL: the same with windows in the vision tower."""
    return _qwen(folder, "Qwen2_5_VL")


def blip2(folder: Path) -> Path:
    """BLIP-2: queries between a ViT and OPT."""
    tokenizer = byte_tokenizer(["<image>"], bos_token_id=1)
    config = transformers.Blip2Config(
        vision_config={"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
                       "num_attention_heads": 4, "image_size": 28, "patch_size": 14},
        qformer_config={"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
                        "num_attention_heads": 4, "encoder_hidden_size": 32, "cross_attention_frequency": 1},
        text_config={"model_type": "opt", "vocab_size": len(tokenizer), "hidden_size": 32, "ffn_dim": 48,
                     "num_hidden_layers": 2, "num_attention_heads": 4, "word_embed_proj_dim": 32,
                     "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    images = transformers.BlipImageProcessor(size={"height": 28, "width": 28})
    processor = transformers.Blip2Processor(images, tokenizer, num_query_tokens=4)
    return save(folder, transformers.Blip2ForConditionalGeneration(config), processor)


def llava(folder: Path) -> Path:
    """LLaVA: CLIP patches, a projector and Llama."""
    tokenizer = byte_tokenizer(["<image>"])
    config = transformers.LlavaConfig(
        text_config=text_config(transformers.LlamaConfig, tokenizer),
        vision_config=transformers.CLIPVisionConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            image_size=28, patch_size=14, projection_dim=16,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )  # fmt: skip
    images = transformers.CLIPImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    )
    processor = transformers.LlavaProcessor(
        images, tokenizer, patch_size=14, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=CHAT.replace("IMAGE", "<image>\n"),
    )  # fmt: skip
    return save(folder, transformers.LlavaForConditionalGeneration(config), processor)


def florence2(folder: Path) -> Path:
    """Florence-2: DaViT and a BART that also speaks in places."""
    places = [f"<loc_{place}>" for place in range(1000)]
    tokenizer = byte_tokenizer(["<image>", *places], extra_special_tokens={"image_token": "<image>"})
    config = transformers.Florence2Config(
        text_config=transformers.BartConfig(
            vocab_size=len(tokenizer), d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=48,
            decoder_ffn_dim=48, encoder_attention_heads=4, decoder_attention_heads=4,
            max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=2,
            decoder_start_token_id=2, forced_bos_token_id=1, forced_eos_token_id=2,
        ),
        vision_config={"embed_dim": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "num_heads": [2, 2, 2, 2],
                       "num_groups": [2, 2, 2, 2], "window_size": 4, "projection_dim": 32},
        image_token_id=tokenizer.image_token_id,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_bos_token_id=1,
    )  # fmt: skip
    images = transformers.CLIPImageProcessor(
        size={"height": 64, "width": 64}, crop_size={"height": 64, "width": 64}
    )
    images.image_seq_length = 5
    processor = transformers.Florence2Processor(images, tokenizer, post_processor_config={})
    return save(folder, transformers.Florence2ForConditionalGeneration(config), processor)


def minicpm_v(folder: Path) -> Path:
    """MiniCPM-V 4.6: windows in the vision tower, slices of large images, Qwen3.5's linear attention."""
    named = {
        "image_token": "<|image_pad|>", "video_token": "<|video_pad|>", "image_start_token": "<image>",
        "image_end_token": "</image>", "slice_start_token": "<slice>", "slice_end_token": "</slice>",
        "image_id_start_token": "<image_id>", "image_id_end_token": "</image_id>",
    }  # fmt: skip
    tokenizer = byte_tokenizer(list(named.values()), extra_special_tokens=named)
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 2048,
        "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2,
        "linear_num_value_heads": 2, "layer_types": ["linear_attention", "full_attention"],
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5,
                            "mrope_section": [2, 1, 1], "mrope_interleaved": True},
        "pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id, "model_type": "qwen3_5_text",
    }  # fmt: skip
    config = transformers.MiniCPMV4_6Config(
        text_config=text,
        vision_config={"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
                       "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "insert_layer_id": 0},
        insert_layer_id=0, image_size=56,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
    )  # fmt: skip
    processor = transformers.MiniCPMV4_6Processor(
        image_processor=transformers.MiniCPMV4_6ImageProcessor(
            patch_size=14, scale_resolution=112, max_slice_nums=2
        ),
        video_processor=transformers.MiniCPMV4_6VideoProcessor(patch_size=14, scale_resolution=112),
        tokenizer=tokenizer,
        chat_template=CHAT.replace("IMAGE", "<|image_pad|>"),
    )
    return save(folder, transformers.MiniCPMV4_6ForConditionalGeneration(config), processor)


CAPTIONERS = {
    "smolvlm": smolvlm,
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "blip2": blip2,
    "llava": llava,
    "florence2": florence2,
}
