//! How the rows of a text's tokens become its vector, by the files that sentence-transformers writes beside a model.
//!
//! ```text
//! modules.json            the steps: a transformer, pooling, perhaps normalisation; others are refused by name
//! 1_Pooling/config.json   which rows
//! ```
//! Where a model has neither, it is the mean over all tokens, divided by its length: what all-MiniLM-L6-v2 and E5 promise.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{File, ModelError, ModelFiles, json};

/// From rows to a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pooling {
    /// Which rows.
    pub of: Pooled,
    /// Whether the vector is divided by its length.
    pub normalised: bool,
}

/// Which rows make a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooled {
    /// The mean of all.
    Mean,
    /// The first (`[CLS]`).
    First,
    /// The last.
    Last,
}

impl Default for Pooling {
    fn default() -> Self {
        Pooling {
            of: Pooled::Mean,
            normalised: true,
        }
    }
}

impl Pooling {
    /// Of the files of a model that is `width` wide.
    pub fn of(files: &ModelFiles, width: usize) -> Result<Self, ModelError> {
        Pooling::parse(
            files.small(File::Modules),
            files.small(File::Pooling),
            width,
        )
    }

    /// Reads `modules.json` and `1_Pooling/config.json`, of a model that is `width` wide.
    pub fn parse(
        modules: Option<&[u8]>,
        pooling: Option<&[u8]>,
        width: usize,
    ) -> Result<Self, ModelError> {
        let mut read = Pooling::default();
        if let Some(modules) = modules {
            read.normalised = normalised(modules, pooling.is_some())?;
        }
        if let Some(pooling) = pooling {
            read.of = pooled(pooling, width)?;
        }
        Ok(read)
    }
}

/// Whether the steps end with normalisation.
fn normalised(modules: &[u8], has_pooling: bool) -> Result<bool, ModelError> {
    #[derive(Deserialize)]
    struct Module {
        path: String,
        r#type: String,
    }
    let wrong = |why: String| ModelError::Pooling(format!("modules.json: {why}"));
    json::check(modules).map_err(|flaw| wrong(flaw.to_string()))?;
    let modules: Vec<Module> =
        serde_json::from_slice(modules).map_err(|error| wrong(error.to_string()))?;
    let mut steps = Vec::new();
    for Module { path, r#type } in &modules {
        let step = r#type.rsplit('.').next().unwrap_or_default();
        if step == "Pooling" && path != "1_Pooling" {
            return Err(wrong(format!(
                "pooling is configured in {path:?}, expected \"1_Pooling\""
            )));
        }
        steps.push(step);
    }
    match steps.as_slice() {
        ["Transformer", "Pooling", ..] if !has_pooling => Err(wrong(
            "it has a step Pooling, and there is no 1_Pooling/config.json".into(),
        )),
        ["Transformer", "Pooling"] => Ok(false),
        ["Transformer", "Pooling", "Normalize"] => Ok(true),
        _ => Err(ModelError::Unsupported(format!(
            "the steps {steps:?} of modules.json; Transformer, Pooling and perhaps Normalize are computed"
        ))),
    }
}

fn pooled(pooling: &[u8], width: usize) -> Result<Pooled, ModelError> {
    #[derive(Deserialize)]
    struct Written {
        #[serde(alias = "embedding_dimension")]
        word_embedding_dimension: Option<usize>,
        pooling_mode: Option<String>,
        #[serde(flatten)]
        more: BTreeMap<String, serde_json::Value>,
    }
    let wrong = |why: String| ModelError::Pooling(format!("1_Pooling/config.json: {why}"));
    json::check_object(pooling).map_err(|flaw| wrong(flaw.to_string()))?;
    let written: Written =
        serde_json::from_slice(pooling).map_err(|error| wrong(error.to_string()))?;
    if let Some(dimension) = written.word_embedding_dimension.filter(|one| *one != width) {
        return Err(wrong(format!(
            "word_embedding_dimension is {dimension}; the model is {width} wide"
        )));
    }
    // One flag for each mode, or the mode's name.
    let mut modes: Vec<&str> = { written.more.iter() }
        .filter(|(_, value)| **value == serde_json::Value::Bool(true))
        .filter_map(|(key, _)| key.strip_prefix("pooling_mode_"))
        .collect();
    modes.extend(written.pooling_mode.as_deref());
    match modes.as_slice() {
        ["mean_tokens" | "mean"] => Ok(Pooled::Mean),
        ["cls_token" | "cls"] => Ok(Pooled::First),
        ["lasttoken"] => Ok(Pooled::Last),
        [] => Err(wrong("it names no mode of pooling".into())),
        other => Err(ModelError::Unsupported(format!(
            "pooling by {other:?}; one of mean, cls and lasttoken is computed"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULES: &str = r#"[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},
        {"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"}"#;
    const NORMALIZE: &str = r#",{"idx":2,"name":"2","path":"2_Normalize","type":"sentence_transformers.models.Normalize"}]"#;

    fn parse(modules: &str, pooling: &str) -> Result<Pooling, String> {
        let of = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
        Pooling::parse(of(modules).as_deref(), of(pooling).as_deref(), 384)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_files_of_sentence_transformers_say_how_vectors_are_made() {
        let all = format!("{MODULES}{NORMALIZE}");
        let two = format!("{MODULES}]");
        let mode = |mode: &str| {
            format!(
                r#"{{"word_embedding_dimension":384,"pooling_mode_{mode}":true,"pooling_mode_max_tokens":false,"include_prompt":true}}"#
            )
        };
        let good = |modules: &str, pooling: &str, of, normalised| {
            assert_eq!(parse(modules, pooling), Ok(Pooling { of, normalised }));
        };
        good("", "", Pooled::Mean, true);
        good(&all, &mode("mean_tokens"), Pooled::Mean, true);
        good(&all, &mode("cls_token"), Pooled::First, true);
        good(&two, &mode("lasttoken"), Pooled::Last, false);
        good("", &mode("cls_token"), Pooled::First, true);
        good(
            &all,
            r#"{"embedding_dimension":384,"pooling_mode":"cls"}"#,
            Pooled::First,
            true,
        );
        for (modules, pooling, expected) in [
            (all.as_str(), "", "there is no 1_Pooling/config.json"),
            (
                &all,
                &mode("mean_tokens").replace(":false", ":true"),
                "pooling by",
            ),
            (
                &all,
                &mode("mean_sqrt_len_tokens"),
                "pooling by [\"mean_sqrt_len_tokens\"]",
            ),
            (
                &all,
                &mode("mean_tokens").replace("384", "768"),
                "is 768; the model is 384 wide",
            ),
            (&all, "{}", "names no mode"),
            (&all, "[]", "expected an object"),
            ("{}", "", "modules.json"),
            (
                &two.replace("models.Pooling", "models.Dense"),
                &mode("mean_tokens"),
                "Dense",
            ),
            (
                &two.replace("\"1_Pooling\"", "\"2\""),
                &mode("mean_tokens"),
                "configured in \"2\"",
            ),
        ] {
            let said = parse(modules, pooling).expect_err(expected);
            assert!(said.contains(expected), "{said}; expected {expected}");
        }
    }
}
