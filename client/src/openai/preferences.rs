//! Fields that change which token is chosen. `top_k`, `min_p` and `repetition_penalty` are no fields of the OpenAI API, but of
//! vLLM's and llama.cpp's.

use super::{flag, other, refuse};
use crate::ask::Preferences;
use crate::error::{ClientError, shown};
use serde_json::Value;
use wire::limits::{BIAS_MAX, BIAS_VALUE_MAX, PENALTY_MAX};

/// Takes a field of that name. `false` if it is none of these.
pub(crate) fn take(
    name: &str,
    value: &Value,
    preferences: &mut Preferences,
) -> Result<bool, ClientError> {
    match name {
        "top_k" => preferences.top_k = top_k(name, value)?,
        "min_p" => preferences.min_p = within(name, value, (0.0, 1.0), "from 0 to below 1")?,
        "repetition_penalty" => {
            let range = (f32::MIN_POSITIVE, PENALTY_MAX);
            let allowed = format!("above 0 and up to {PENALTY_MAX}");
            preferences.repetition = within(name, value, range, &allowed)?;
        }
        "presence_penalty" => preferences.presence = penalty(name, value)?,
        "frequency_penalty" => preferences.frequency = penalty(name, value)?,
        "logit_bias" => preferences.bias = biases(name, value)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// 0 or -1 mean all.
fn top_k(name: &str, value: &Value) -> Result<u32, ClientError> {
    match value.as_i64() {
        Some(-1) => Ok(0),
        Some(count) if count >= 0 => Ok(u32::try_from(count).unwrap_or(0)),
        _ => Err(other(name, value, "a whole number from 0, or -1 for all")),
    }
}

fn penalty(name: &str, value: &Value) -> Result<f32, ClientError> {
    let range = (-PENALTY_MAX, PENALTY_MAX);
    within(
        name,
        value,
        range,
        &format!("-{PENALTY_MAX} to {PENALTY_MAX}"),
    )
}

fn within(
    name: &str,
    value: &Value,
    (min, max): (f32, f32),
    allowed: &str,
) -> Result<f32, ClientError> {
    // Adding nothing to a negative zero makes it a zero, of which a request has one encoding.
    let number = value.as_f64().map(|number| number as f32 + 0.0);
    let number = number.filter(|number| (min..=max).contains(number));
    let below_one = |number: &f32| name != "min_p" || *number < 1.0;
    number
        .filter(below_one)
        .ok_or_else(|| other(name, value, allowed))
}

/// From token id to bias, as the OpenAI API has it.
fn biases(name: &str, value: &Value) -> Result<Vec<(u32, f32)>, ClientError> {
    let object = "an object from token id to bias";
    let fields = value
        .as_object()
        .ok_or_else(|| other(name, value, object))?;
    if fields.len() > BIAS_MAX {
        let count = fields.len();
        let message = format!("`{name}` names {count} tokens; at most {BIAS_MAX} are allowed");
        return Err(refuse(Some(name), &message));
    }
    let mut biases = Vec::with_capacity(fields.len());
    for (token, value) in fields {
        let field = format!("{name}.{}", shown(token));
        let id = token.parse::<u32>().ok();
        // One encoding of each id: `7` and `07` would be two biases of one token.
        let id = id.filter(|id| id.to_string() == *token);
        let id = id.ok_or_else(|| {
            refuse(
                Some(&field),
                &format!("`{field}` is no token id, a whole number"),
            )
        })?;
        let range = (-BIAS_VALUE_MAX, BIAS_VALUE_MAX);
        let allowed = format!("-{BIAS_VALUE_MAX} to {BIAS_VALUE_MAX}");
        biases.push((id, within(&field, value, range, &allowed)?));
    }
    // In an order that tells nothing of the application.
    biases.sort_unstable_by_key(|(id, _)| *id);
    Ok(biases)
}

/// How many alternatives of each token are asked for, if log probabilities are.
pub(super) fn logprobs(
    logprobs: Option<&Value>,
    top: Option<&Value>,
) -> Result<Option<u8>, ClientError> {
    let wanted = logprobs.map_or(Ok(false), |value| flag("logprobs", value))?;
    let count = match top {
        None => 0,
        Some(value) => match value.as_u64() {
            Some(count @ 0..=20) => count as u8,
            _ => return Err(other("top_logprobs", value, "0 to 20")),
        },
    };
    match (wanted, count) {
        (true, count) => Ok(Some(count)),
        (false, 0) => Ok(None),
        (false, _) => {
            let message = "`top_logprobs` needs `logprobs` to be true";
            Err(refuse(Some("top_logprobs"), message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_taken_within_their_bounds_and_refused_by_name_beyond_them() {
        let taken = |name: &str, value: &Value| {
            let mut preferences = Preferences::default();
            take(name, value, &mut preferences).map(|known| (known, preferences))
        };
        let all = Preferences::default;
        for (name, value, expected) in [
            ("top_k", json!(40), Preferences { top_k: 40, ..all() }),
            ("top_k", json!(-1), all()),
            (
                "min_p",
                json!(0.5),
                Preferences {
                    min_p: 0.5,
                    ..all()
                },
            ),
            (
                "repetition_penalty",
                json!(2),
                Preferences {
                    repetition: 2.0,
                    ..all()
                },
            ),
            (
                "presence_penalty",
                json!(-2),
                Preferences {
                    presence: -2.0,
                    ..all()
                },
            ),
            (
                "frequency_penalty",
                json!(0.25),
                Preferences {
                    frequency: 0.25,
                    ..all()
                },
            ),
            (
                "logit_bias",
                json!({"70": -100, "8": 1.5}),
                Preferences {
                    bias: vec![(8, 1.5), (70, -100.0)],
                    ..all()
                },
            ),
            ("logit_bias", json!({}), all()),
        ] {
            assert_eq!(taken(name, &value).unwrap(), (true, expected), "{name}");
        }
        let zero = taken("presence_penalty", &json!(-0.0)).unwrap().1;
        assert!(zero.presence.is_sign_positive(), "one encoding of zero");
        assert!(!taken("temperature", &json!(1)).unwrap().0);
        for (name, value) in [
            ("top_k", json!(-2)),
            ("top_k", json!(1.5)),
            ("min_p", json!(1)),
            ("min_p", json!(-0.1)),
            ("repetition_penalty", json!(0)),
            ("presence_penalty", json!(2.1)),
            ("frequency_penalty", json!("1")),
            ("logit_bias", json!([])),
            ("logit_bias", json!({"a": 1})),
            ("logit_bias", json!({"07": 1})),
            ("logit_bias", json!({"-1": 1})),
            ("logit_bias", json!({"7": 100.5})),
            ("logit_bias", json!({"7": null})),
        ] {
            let refused = taken(name, &value).unwrap_err();
            assert!(refused.to_string().contains(name), "{refused}");
        }
        let many = (0..301).map(|id| (id.to_string(), json!(1)));
        let many = Value::Object(many.collect());
        assert!(taken("logit_bias", &many).is_err());
    }

    #[test]
    fn alternatives_need_log_probabilities() {
        let asked = |wanted: Value, top: Value| logprobs(Some(&wanted), Some(&top)).ok();
        assert_eq!(asked(json!(true), json!(20)), Some(Some(20)));
        assert_eq!(asked(json!(true), json!(0)), Some(Some(0)));
        assert_eq!(asked(json!(false), json!(0)), Some(None));
        assert_eq!(asked(json!(false), json!(1)), None);
        assert_eq!(asked(json!(true), json!(21)), None);
        assert_eq!(asked(json!(1), json!(1)), None);
        assert_eq!(logprobs(None, None).ok(), Some(None));
    }
}
