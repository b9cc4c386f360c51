use super::*;

const ENVELOPE: EnvelopeDigest = EnvelopeDigest([7; 32]);

fn read(endpoint: Endpoint, records: &[RecordBytes]) -> Result<Vec<AnswerEvent>, RecordError> {
    let mut reader = AnswerReader::new(endpoint, ENVELOPE);
    records.iter().map(|record| reader.take(record)).collect()
}

fn completion(receipt: &[u8]) -> Vec<RecordBytes> {
    let mut writer = AnswerWriter::new(Endpoint::Chat, ENVELOPE);
    let mut records = vec![
        writer.ids(&[], None),
        writer.ids(&[1, 70_000], None),
        writer.ids(&[2], Some(Finish::Stop)),
    ];
    records.extend(writer.receipt(receipt));
    records
}

#[test]
fn both_sides_agree_about_events_numbers_and_chain() {
    let mut writer = AnswerWriter::new(Endpoint::Chat, ENVELOPE);
    let mut reader = AnswerReader::new(Endpoint::Chat, ENVELOPE);
    let ids = |ids: &[u32], finish| AnswerEvent::Ids {
        ids: ids.into(),
        finish,
    };
    for (tokens, finish) in [
        (&[][..], None),
        (&[1, 70_000], None),
        (&[2; 120], Some(Finish::Length)),
    ] {
        let record = writer.ids(tokens, finish);
        assert_eq!(reader.take(&record), Ok(ids(tokens, finish)));
    }
    assert_eq!((writer.chain(), writer.chained()), (reader.chain(), 3));
    let receipt: Vec<u8> = (0..1000).map(|n| n as u8).collect();
    let records = writer.receipt(&receipt);
    assert_eq!(records.len(), 3);
    for record in &records[..2] {
        assert_eq!(reader.take(record), Ok(AnswerEvent::Part));
    }
    assert_eq!(reader.take(&records[2]), Ok(AnswerEvent::Receipt(receipt)));
    assert_eq!(
        reader.chained(),
        3,
        "a receipt is not part of what it names"
    );

    let mut writer = AnswerWriter::new(Endpoint::Embeddings, ENVELOPE);
    let numbers: Vec<f32> = (0..500).map(|n| n as f32 / 3.0).collect();
    let mut vectors = vec![writer.empty()];
    vectors.extend(writer.vectors(&numbers, 50, Finish::Stop));
    let (mut read_numbers, mut finishes) = (Vec::new(), 0);
    for event in read(Endpoint::Embeddings, &vectors).unwrap() {
        let AnswerEvent::Vectors {
            numbers,
            finish,
            width,
        } = event
        else {
            panic!("{event:?}")
        };
        assert!(width == 50 || numbers.is_empty());
        read_numbers.extend(numbers);
        finishes += usize::from(finish.is_some());
    }
    assert_eq!((read_numbers, finishes), (numbers, 1));
    let out_of_place = Err(RecordError::OutOfPlace(RecordKind::Vectors));
    assert_eq!(read(Endpoint::Chat, &vectors), out_of_place);
}

#[test]
fn log_probabilities_travel_with_their_tokens_and_are_metered_by_token() {
    let scored = |id: u32, top: usize| Scored {
        id,
        logprob: -0.5,
        top: (0..top as u32).map(|n| (n, -1.0 - n as f32)).collect(),
    };
    for (alternatives, fit) in [(0, 60), (5, 10), (20, 2)] {
        let mut writer = AnswerWriter::with_logprobs(ENVELOPE, alternatives);
        let mut reader = AnswerReader::with_logprobs(ENVELOPE, alternatives);
        assert_eq!(writer.tokens_max(), fit);
        let tokens: Vec<_> = (0..fit as u32).map(|id| scored(id, alternatives)).collect();
        let records = [
            (writer.empty(), vec![], None),
            (writer.scored(&tokens, None), tokens, None),
            (
                writer.scored(&[scored(70_000, alternatives)], Some(Finish::Stop)),
                vec![scored(70_000, alternatives)],
                Some(Finish::Stop),
            ),
        ];
        for (record, tokens, finish) in records {
            assert_eq!(
                reader.take(&record),
                Ok(AnswerEvent::Scored { tokens, finish })
            );
        }
        assert_eq!(
            (writer.chain(), reader.state.meter),
            (reader.chain(), fit as u64 + 1)
        );
        assert_eq!(
            reader.take(&writer.receipt(b"r")[0]),
            Ok(AnswerEvent::Receipt(b"r".into()))
        );
    }
    // Fewer or more alternatives than asked for, ids alone where more is asked for, and the other way round.
    let mut writer = AnswerWriter::with_logprobs(ENVELOPE, 5);
    let few = AnswerReader::with_logprobs(ENVELOPE, 5).take(&writer.scored(&[scored(1, 2)], None));
    let Ok(AnswerEvent::Scored { tokens, .. }) = few else {
        panic!("{few:?}")
    };
    assert_eq!(tokens[0].top[1..], [(1, -2.0); 4]);
    let record = AnswerWriter::with_logprobs(ENVELOPE, 5).scored(&[scored(1, 5)], None);
    let other = AnswerReader::with_logprobs(ENVELOPE, 20).take(&record);
    assert_eq!(other, Err(RecordError::Width { got: 12, want: 42 }));
    let place = |kind| Err(RecordError::OutOfPlace(kind));
    let plain = AnswerReader::new(Endpoint::Chat, ENVELOPE).take(&record);
    assert_eq!(plain, place(RecordKind::Scored));
    let ids = AnswerWriter::new(Endpoint::Chat, ENVELOPE).ids(&[1], None);
    let asked = AnswerReader::with_logprobs(ENVELOPE, 0).take(&ids);
    assert_eq!(asked, place(RecordKind::Ids));
    let mut infinite = scored(1, 0);
    infinite.logprob = f32::NEG_INFINITY;
    let record = AnswerWriter::with_logprobs(ENVELOPE, 0).scored(&[infinite], None);
    let read = AnswerReader::with_logprobs(ENVELOPE, 0).take(&record);
    assert_eq!(read, Err(RecordError::NotFinite));
}

#[test]
fn vectors_have_one_width_and_are_whole() {
    let mut writer = AnswerWriter::new(Endpoint::Embeddings, ENVELOPE);
    let cut = writer.vectors(&[0.5; 7], 2, Finish::Stop);
    let refused = Err(RecordError::Width { got: 2, want: 2 });
    assert_eq!(read(Endpoint::Embeddings, &cut), refused);
    let mut writer = AnswerWriter::new(Endpoint::Embeddings, ENVELOPE);
    let mut records = writer.vectors(&[0.5; 240], 2, Finish::Deadline);
    records[1][24] = 3;
    let refused = Err(RecordError::Width { got: 3, want: 2 });
    assert_eq!(read(Endpoint::Embeddings, &records), refused);
}

#[test]
fn a_score_is_one_number() {
    for (width, good) in [(1, true), (2, false)] {
        let mut writer = AnswerWriter::new(Endpoint::Rerank, ENVELOPE);
        let records = writer.vectors(&[0.5; 6], width, Finish::Stop);
        assert_eq!(read(Endpoint::Rerank, &records).is_ok(), good, "{width}");
        assert!(read(Endpoint::Embeddings, &records).is_ok());
    }
}

/// What 40 records need takes 40, and so does what 39 need.
#[test]
fn the_length_of_vectors_is_a_bucket() {
    let records = |numbers: usize| {
        let mut writer = AnswerWriter::new(Endpoint::Embeddings, ENVELOPE);
        writer.vectors(&vec![0.5; numbers], 1, Finish::Stop).len()
    };
    assert_eq!(records(0), 1);
    assert_eq!(records(120), 1);
    assert_eq!(records(121), 2);
    assert_eq!(records(39 * RECORD_SLOTS), 40);
    assert_eq!(records(40 * RECORD_SLOTS), 40);
}

#[test]
fn records_out_of_order_or_after_the_end_are_refused() {
    let records = completion(b"receipt");
    assert!(read(Endpoint::Chat, &records).is_ok());
    let without = |at: usize| {
        let mut records = records.clone();
        records.remove(at);
        read(Endpoint::Chat, &records).err()
    };
    for at in 0..3 {
        let (got, want) = (at as u32 + 1, at as u32);
        assert_eq!(without(at), Some(RecordError::Sequence { got, want }));
    }
    let mut twice = records.clone();
    twice.push(records[3]);
    let out_of_place = Some(RecordError::OutOfPlace(RecordKind::Receipt));
    assert_eq!(read(Endpoint::Chat, &twice).err(), out_of_place);
    // A receipt before the end, and ids after it.
    let mut writer = AnswerWriter::new(Endpoint::Chat, ENVELOPE);
    let early = writer.receipt(b"receipt");
    assert_eq!(read(Endpoint::Chat, &early).err(), out_of_place);
    let mut writer = AnswerWriter::new(Endpoint::Chat, ENVELOPE);
    let late = [writer.ids(&[], Some(Finish::Stop)), writer.ids(&[1], None)];
    let out_of_place = Some(RecordError::OutOfPlace(RecordKind::Ids));
    assert_eq!(read(Endpoint::Chat, &late).err(), out_of_place);
}

#[test]
fn a_meter_a_number_or_a_failure_that_is_wrong_is_refused() {
    let changed = |at: usize, byte: u8| {
        let mut records = completion(b"receipt");
        records[1][at] = byte;
        read(Endpoint::Chat, &records).err()
    };
    assert_eq!(changed(16, 3), Some(RecordError::Meter { got: 3, want: 2 }));
    for number in [f32::NAN, f32::INFINITY] {
        let mut writer = AnswerWriter::new(Endpoint::Embeddings, ENVELOPE);
        let records = writer.vectors(&[number], 1, Finish::Stop);
        let refused = Err(RecordError::NotFinite);
        assert_eq!(read(Endpoint::Embeddings, &records), refused);
    }
    let mut writer = AnswerWriter::new(Endpoint::Chat, ENVELOPE);
    let mut failure = writer.failure(JobFailure::Engine);
    let engine = vec![AnswerEvent::Failure(JobFailure::Engine)];
    assert_eq!(read(Endpoint::Chat, &failure), Ok(engine));
    failure[0][32] = 9;
    let odd = RecordError::Field {
        field: "failure",
        got: 9,
    };
    assert_eq!(read(Endpoint::Chat, &failure), Err(odd));
    // A receipt whose first part is not full, or that never ends.
    let mut parts = completion(&[7; 481]);
    assert!(read(Endpoint::Chat, &parts).is_ok());
    parts[3][4] = 0;
    assert!(read(Endpoint::Chat, &parts).is_err());
    let long = completion(&[7; RECEIPT_BYTES_MAX + 1]);
    assert_eq!(
        read(Endpoint::Chat, &long).err(),
        Some(RecordError::TooLong("a receipt"))
    );
}
