use super::*;

const ROOT: Digest = Digest([3; 32]);

fn chat() -> ChatRequest {
    ChatRequest {
        temperature: 0.5,
        seed: Some(7),
        stops: vec![vec![9], vec![10, 11]],
        ..ChatRequest::new(vec![1, 70_000, u32::MAX], 16)
    }
}

fn asking(ask: Ask) -> Request {
    Request {
        model_root: ROOT,
        parent: Some([5; 16]),
        ask,
    }
}

fn again(request: &Request) -> Result<Request, Malformed> {
    Request::decode(request.endpoint(), &request.encode()?)
}

/// Everything that the format has room for.
fn full() -> ChatRequest {
    ChatRequest {
        top_k: 40,
        min_p: 0.125,
        repetition: 1.1,
        presence: -0.5,
        frequency: 0.25,
        bias: vec![(3, -100.0), (4, 1.0)],
        logprobs: Some(20),
        prefix: Some(([8; 32], 2)),
        grammar: vec![1, 2, 3],
        choices: 2,
        ..chat()
    }
}

fn pair(first: u32) -> Pair {
    Pair {
        tokens: vec![101, 7, 102, 8, 102],
        first,
    }
}

fn samples() -> [Request; 5] {
    [
        asking(Ask::Chat(chat())),
        asking(Ask::Chat(full())),
        asking(Ask::Embeddings(vec![vec![101, 7, 102], vec![101, 102]])),
        asking(Ask::Rerank(vec![pair(3), pair(1)])),
        Request {
            parent: None,
            ..asking(Ask::Chat(ChatRequest::new(vec![1], 1)))
        },
    ]
}

#[test]
fn a_request_comes_back_as_it_was() {
    for request in samples() {
        assert_eq!(again(&request), Ok(request.clone()));
    }
    assert_eq!(asking(Ask::Chat(chat())).prompt_tokens(), 3);
    let inputs = Ask::Embeddings(vec![vec![1, 2], vec![3]]);
    assert_eq!(asking(inputs).prompt_tokens(), 3);
}

/// Written down by hand from the table above, so that the table is the format.
#[test]
fn the_bytes_are_those_of_the_table() {
    let bytes = |hex: &str, length: usize| {
        let mut bytes = hex::decode(hex.replace([' ', '\n'], "")).unwrap();
        bytes.resize(length, 0);
        bytes
    };
    let length = REQUEST_HEADER_BYTES + 4 * REQUEST_WORDS_MIN;
    let root = "03".repeat(32);
    let header = format!(
        "01000000 01000000 03000000 01000000  01000000 03000000 00000000 02000000 03000000 00000000
         10000000 0000003f 0000803f 00000000 0000803f 00000000 00000000 00000000 0700000000000000
         {root} {}",
        "05".repeat(16)
    );
    let mut expected = bytes(&header, REQUEST_HEADER_BYTES);
    let words =
        "03000000  01000000 70110100 ffffffff  01000000 02000000  09000000 0a000000 0b000000";
    expected.extend(bytes(words, length - REQUEST_HEADER_BYTES));
    let encoded = asking(Ask::Chat(chat())).encode().unwrap();
    assert_eq!(hex::encode(&encoded[..]), hex::encode(expected));

    let header = format!(
        "01000000 00000000 02000000 00000000  02000000 05000000 00000000 00000000 00000000 00000000
         {} {root} {}",
        "00".repeat(40),
        "05".repeat(16)
    );
    let mut expected = bytes(&header, REQUEST_HEADER_BYTES);
    let words = "03000000 02000000  65000000 07000000 66000000 65000000 66000000";
    expected.extend(bytes(words, length - REQUEST_HEADER_BYTES));
    let encoded = samples()[2].encode().unwrap();
    assert_eq!(hex::encode(&encoded[..]), hex::encode(expected));
}

#[test]
fn a_value_at_its_limit_is_taken_and_the_next_one_is_not() {
    let check = |change: &dyn Fn(&mut ChatRequest)| {
        let mut request = chat();
        change(&mut request);
        match again(&asking(Ask::Chat(request))) {
            Ok(_) => None,
            Err(Malformed::Field { field, .. }) => Some(field),
            Err(Malformed::TooLong { .. }) => Some("length"),
            Err(other) => panic!("{other}"),
        }
    };
    type Change = fn(&mut ChatRequest);
    let good: [Change; 14] = [
        |r| r.min_p = 0.0,
        |r| r.min_p = 1.0f32.next_down(),
        |r| r.tokens_max = 1,
        |r| r.tokens_max = COMPLETION_TOKENS_MAX,
        |r| r.temperature = 0.0,
        |r| r.temperature = TEMPERATURE_MAX,
        |r| r.top_p = f32::MIN_POSITIVE,
        |r| r.prompt = vec![1; REQUEST_WORDS_MAX - 6],
        |r| r.stops = vec![vec![1; STOP_TOKENS_MAX]; STOPS_MAX],
        |r| r.stops.clear(),
        |r| r.bias = vec![(1, 1.0); BIAS_MAX],
        |r| r.grammar = vec![1; GRAMMAR_WORDS_MAX],
        |r| r.presence = -PENALTY_MAX,
        |r| r.logprobs = Some(5),
    ];
    for (number, change) in good.iter().enumerate() {
        assert_eq!(check(change), None, "{number}");
    }
    let bad: [(&str, Change); 25] = [
        ("min_p", |r| r.min_p = 1.0),
        ("min_p", |r| r.min_p = -0.0),
        ("min_p", |r| r.min_p = f32::NAN),
        ("tokens_max", |r| r.tokens_max = 0),
        ("tokens_max", |r| r.tokens_max = COMPLETION_TOKENS_MAX + 1),
        ("temperature", |r| r.temperature = -0.1),
        ("temperature", |r| r.temperature = -0.0),
        ("temperature", |r| r.temperature = f32::NAN),
        ("temperature", |r| r.temperature = TEMPERATURE_MAX.next_up()),
        ("top_p", |r| r.top_p = 0.0),
        ("top_p", |r| r.top_p = 1.0f32.next_up()),
        ("top_p", |r| r.top_p = f32::NAN),
        ("prompt", |r| r.prompt.clear()),
        ("length", |r| r.prompt = vec![1; REQUEST_WORDS_MAX - 5]),
        ("stops", |r| r.stops = vec![vec![1; STOP_TOKENS_MAX + 1]]),
        ("stops", |r| r.stops = vec![vec![1]; STOPS_MAX + 1]),
        ("stops", |r| r.stops = vec![vec![]]),
        ("bias", |r| r.bias = vec![(1, 1.0); BIAS_MAX + 1]),
        ("grammar", |r| r.grammar = vec![1; GRAMMAR_WORDS_MAX + 1]),
        ("presence", |r| r.presence = PENALTY_MAX.next_up()),
        ("frequency", |r| r.frequency = -0.0),
        ("repetition", |r| r.repetition = 0.0),
        ("repetition", |r| r.repetition = f32::NAN),
        ("logprobs", |r| r.logprobs = Some(1)),
        ("choices", |r| r.choices = 0),
    ];
    for (number, (field, change)) in bad.iter().enumerate() {
        assert_eq!(check(change), Some(*field), "{number}");
    }
    for (inputs, good) in [
        (vec![], false),
        (vec![vec![]], false),
        (vec![vec![1]; INPUTS_MAX], true),
        (vec![vec![1]; INPUTS_MAX + 1], false),
        (vec![vec![1; 255]; INPUTS_MAX], true),
    ] {
        assert_eq!(again(&asking(Ask::Embeddings(inputs))).is_ok(), good);
    }
}

#[test]
fn a_pair_has_two_parts() {
    for (pairs, good) in [
        (vec![], false),
        (vec![pair(0)], false),
        (vec![pair(5)], false),
        (vec![pair(4)], true),
        (vec![pair(1); INPUTS_MAX], true),
        (vec![pair(1); INPUTS_MAX + 1], false),
    ] {
        assert_eq!(again(&asking(Ask::Rerank(pairs))).is_ok(), good);
    }
    // The words: lengths, tokens, and how many of each are of the first part.
    let bytes = asking(Ask::Rerank(vec![pair(3), pair(1)]))
        .encode()
        .unwrap();
    let word = |place: usize| bytes[REQUEST_HEADER_BYTES + 4 * place];
    let words: Vec<u8> = (0..15).map(word).collect();
    assert_eq!(
        words,
        [5, 5, 101, 7, 102, 8, 102, 101, 7, 102, 8, 102, 3, 1, 0]
    );
    assert_eq!((bytes[4], bytes[16], bytes[20]), (2, 2, 10));
}

#[test]
fn what_no_guest_computes_is_named_and_never_ignored() {
    let several = ChatRequest {
        choices: 2,
        ..chat()
    };
    assert_eq!(several.unsupported(), Some("choices"));
    let read = again(&asking(Ask::Chat(several.clone())));
    assert_eq!(read, Ok(asking(Ask::Chat(several))), "it arrives");
    assert_eq!(chat().unsupported(), None);
}

#[test]
fn the_length_tells_the_bucket_and_no_more() {
    let length = |tokens: usize| {
        let request = asking(Ask::Chat(ChatRequest::new(vec![1; tokens], 1)));
        request.encode().unwrap().len()
    };
    let smallest = REQUEST_HEADER_BYTES + 4 * REQUEST_WORDS_MIN;
    for tokens in [1, 10, 500, REQUEST_WORDS_MIN - 1] {
        assert_eq!(length(tokens), smallest);
    }
    assert!(length(REQUEST_WORDS_MIN) > smallest);
    assert_eq!(length(1_000), length(1_020));
    for words in [0, 512, 513, 5_000, 70_000, REQUEST_WORDS_MAX] {
        let padded = bucket(words);
        assert!(padded >= words && bucket(padded) == padded, "{words}");
        assert!(words < 512 || padded as f64 <= words as f64 * 1.12);
    }
    assert_eq!(bucket(REQUEST_WORDS_MAX), REQUEST_WORDS_MAX);
}

#[test]
fn another_endpoint_length_or_encoding_is_refused() {
    for request in samples() {
        let endpoint = request.endpoint();
        let bytes = request.encode().unwrap();
        let other = match endpoint {
            Endpoint::Chat => Endpoint::Embeddings,
            Endpoint::Embeddings => Endpoint::Rerank,
            Endpoint::Rerank => Endpoint::Chat,
        };
        assert_eq!(
            Request::decode(other, &bytes),
            Err(out_of_range("endpoint"))
        );
        let longer = [&bytes[..], &[0; 4]].concat();
        for odd in [&longer, &bytes[..bytes.len() - 4], &bytes[1..], b""] {
            assert!(Request::decode(endpoint, odd).is_err());
        }
        // The next bucket is one too many.
        let mut wide = bytes.to_vec();
        wide.resize(REQUEST_HEADER_BYTES + 4 * bucket(REQUEST_WORDS_MIN + 1), 0);
        assert!(Request::decode(endpoint, &wide).is_err());
    }
    let huge = vec![0; REQUEST_BYTES_MAX + 1];
    assert!(matches!(
        Request::decode(Endpoint::Chat, &huge),
        Err(Malformed::TooLong { .. })
    ));
    for odd in [
        &br#"{"model":"m","input":"a"}"#[..],
        &[0xff; 256],
        &[0; 2304],
    ] {
        assert!(Request::decode(Endpoint::Chat, odd).is_err());
    }
    let mut second = samples()[0].encode().unwrap();
    second[0] = 2;
    assert_eq!(
        Request::decode(Endpoint::Chat, &second),
        Err(Malformed::Version { what: WHAT, got: 2 })
    );
}

/// Floats by their bits, so that two encodings of one value would show.
#[test]
fn a_flipped_byte_never_leaves_the_same_request() {
    for request in samples() {
        let bytes = request.encode().unwrap();
        let used = REQUEST_HEADER_BYTES + 4 * request.sizes().words();
        for at in (0..used).chain(used..used + 8).chain([bytes.len() - 1]) {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let read = Request::decode(request.endpoint(), &flipped);
                assert_ne!(read.as_ref(), Ok(&request), "byte {at} bit {bit}");
                if let Ok(read) = read {
                    let encoded = read.encode().expect("what decodes encodes");
                    assert_eq!(encoded, flipped, "byte {at} bit {bit}");
                }
            }
        }
        for length in [0, 1, 255, 256, 260, used, bytes.len() - 1] {
            assert!(Request::decode(request.endpoint(), &bytes[..length]).is_err());
        }
    }
}
