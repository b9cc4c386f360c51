//! The tensors of a decoder by what they are for. Names are those of `LlamaForCausalLM` and its kin.

use model::decoder::Config;

/// One tensor.
#[expect(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    Embedding,
    Output,
    Norm,
    Layer(usize, LayerPart),
}

/// One tensor of a layer.
#[expect(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerPart {
    AttentionNorm,
    Query,
    Key,
    Value,
    QueryBias,
    KeyBias,
    ValueBias,
    QueryNorm,
    KeyNorm,
    Out,
    OutBias,
    AfterAttentionNorm,
    FeedNorm,
    Gate,
    Up,
    Down,
    GateBias,
    UpBias,
    DownBias,
    AfterFeedNorm,
}

/// What the tensor of this name is for.
pub fn part(config: &Config, name: &str) -> Option<Part> {
    use LayerPart as P;
    let name = match name {
        "model.embed_tokens.weight" => return Some(Part::Embedding),
        "model.norm.weight" => return Some(Part::Norm),
        "lm_head.weight" => return Some(Part::Output),
        other => other.strip_prefix("model.layers.")?,
    };
    let (index, name) = name.split_once('.')?;
    let index = index
        .parse()
        .ok()
        .filter(|index| *index < config.layers.len())?;
    let part = match name {
        "input_layernorm.weight" => P::AttentionNorm,
        "self_attn.q_proj.weight" => P::Query,
        "self_attn.k_proj.weight" => P::Key,
        "self_attn.v_proj.weight" => P::Value,
        "self_attn.q_proj.bias" => P::QueryBias,
        "self_attn.k_proj.bias" => P::KeyBias,
        "self_attn.v_proj.bias" => P::ValueBias,
        "self_attn.q_norm.weight" => P::QueryNorm,
        "self_attn.k_norm.weight" => P::KeyNorm,
        "self_attn.o_proj.weight" => P::Out,
        "self_attn.o_proj.bias" => P::OutBias,
        // Gemma uses the name that means another norm elsewhere.
        "post_attention_layernorm.weight" if config.post_norms => P::AfterAttentionNorm,
        "post_attention_layernorm.weight" | "pre_feedforward_layernorm.weight" => P::FeedNorm,
        "post_feedforward_layernorm.weight" => P::AfterFeedNorm,
        "mlp.gate_proj.weight" => P::Gate,
        "mlp.up_proj.weight" => P::Up,
        "mlp.down_proj.weight" => P::Down,
        "mlp.gate_proj.bias" => P::GateBias,
        "mlp.up_proj.bias" => P::UpBias,
        "mlp.down_proj.bias" => P::DownBias,
        _ => return None,
    };
    Some(Part::Layer(index, part))
}
