//! Every number that bounds what a file or a request may make this crate or the engine do. A value over its limit is a
//! typed error before anything is allocated for it.

/// `config.json`: a page of numbers.
pub const CONFIG_BYTES_MAX: u64 = 64 * 1024;
/// `tokenizer.json`: the largest vocabularies in use are near 20 MB.
pub const TOKENIZER_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// `tokenizer_config.json`: the added tokens and a chat template.
pub const TOKENIZER_CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// A file of weights, which is read row by row and never held: what bounds the memory of a model is its configuration.
pub const WEIGHTS_BYTES_MAX: u64 = 1 << 40;
/// The JSON header of one file of weights: a hundred thousand tensors, more than any model has, need some 12 MB.
pub const WEIGHTS_HEADER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The headers of all weights of one model together: the names of their tensors are in memory at once.
pub const WEIGHTS_HEADERS_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// An index of weights: the largest models' have some 10 MB.
pub const INDEX_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Everything in a GGUF file before its tensors: the largest vocabularies with their merges have some 15 MB.
pub const GGUF_HEADER_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// What of it is held in memory: names, and values that are no long lists.
pub const GGUF_KEPT_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Values of a GGUF file: the largest models have some 60.
pub const GGUF_VALUES_MAX: u64 = 4096;
/// Tensors of a GGUF file: a thousand in models of 70 billion parameters.
pub const GGUF_TENSORS_MAX: u64 = 100_000;
/// The name of a tensor or of a value: ggml's own limit for tensors is 64.
pub const GGUF_NAME_BYTES_MAX: u64 = 256;
/// A text among the values: a chat template, a licence.
pub const GGUF_TEXT_BYTES_MAX: u64 = 1024 * 1024;
/// Numbers of a list that is held: one for each layer.
pub const GGUF_LIST_MAX: u64 = 1024;
/// Entries of a list that is read later: merges of a vocabulary of [`VOCABULARY_MAX`].
pub const GGUF_ARRAY_MAX: u64 = 1 << 22;
/// Bytes of such a list.
pub const GGUF_ARRAY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// `tokenizer.model`: the pieces of a vocabulary have some 5 MB.
pub const PIECES_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The description of a model's volume: some 200 bytes a file.
pub const DESCRIPTION_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One text to embed, or the content of one message: a long file, as agents paste them.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// The contents of all messages of one conversation together.
pub const CONVERSATION_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Messages of one conversation: an agent's, over a day.
pub const MESSAGES_MAX: usize = 1024;
/// Completion tokens that one request may ask for.
pub const COMPLETION_TOKENS_MAX: u32 = 1 << 17;
/// Positions of an encoder, whatever its `config.json` claims. What a decoder holds is bounded by the memory for its keys
/// and values.
pub const CONTEXT_TOKENS_MAX: usize = 32 * 1024;
/// Tokens of one embedding, `[CLS]` and `[SEP]` included: the promise of sentence-transformers for all-MiniLM-L6-v2.
pub const EMBEDDING_TOKENS_MAX: usize = 256;

/// One piece of a vocabulary: the longest in use have some 1,000.
pub const PIECE_BYTES_MAX: usize = 4096;

/// Tools that one conversation may define.
pub const TOOLS_MAX: usize = 128;
/// A chat template: a file of its own, or in `tokenizer_config.json`.
pub const TEMPLATE_BYTES_MAX: usize = 64 * 1024;
/// Instructions a chat template may execute for one conversation: a thousand for each message.
pub const TEMPLATE_FUEL: u64 = 1_000_000;

/// Positions that a configuration may claim: a window, a context. What fits in memory is less.
pub const POSITIONS_MAX: usize = 1 << 24;
/// Tokens that end a completion.
pub const END_TOKENS_MAX: usize = 16;

/// Transformer layers.
pub const LAYERS_MAX: usize = 256;
/// Width of a layer, also of its feed-forward part.
pub const WIDTH_MAX: usize = 65_536;
/// Attention heads.
pub const HEADS_MAX: usize = 512;
/// Vocabulary entries.
pub const VOCABULARY_MAX: usize = 1 << 20;

/// States of an automaton over tokens: as many as a guest takes (`kernels::sampling::automaton`).
pub const GRAMMAR_STATES_MAX: usize = 256;
/// Classes of tokens that it tells apart.
pub const GRAMMAR_CLASSES_MAX: usize = 512;
/// Nodes of a form's first automaton: a schema of some 64 KiB, or some thousand bounded repetitions.
pub const FORM_NODES_MAX: usize = 200_000;
/// States of a form over bytes. Of more than this no vocabulary makes as few states as a guest takes.
pub const FORM_BYTE_STATES_MAX: usize = 8192;
/// Steps of making those, each of which may store a number: less than a second, and 160 MB.
pub const FORM_STEPS_MAX: usize = 10_000_000;
/// Entries of a list in a schema, items of a list and characters of a string that it counts.
pub const FORM_ITEMS_MAX: usize = 1024;
/// Schemas in schemas.
pub const SCHEMA_DEPTH_MAX: usize = 32;
/// A regular expression.
pub const PATTERN_BYTES_MAX: usize = 4096;
/// Groups in groups of a regular expression.
pub const PATTERN_DEPTH_MAX: u32 = 32;
