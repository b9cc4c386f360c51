//! What the operator sees: `/metrics` for Prometheus, `/status` for people and `/status.json` for programs, on a port of their own.
//!
//! Without scripts and without anything from elsewhere. What is earned is on it, so the port is for the operator alone; who may reach it
//! is the operator's business (bind it to loopback, or to a private network).

use crate::api_error::ApiError;
use crate::guests::Guest;
use crate::limits::STATUS_PAYOUTS_SHOWN;
use crate::metrics::{Exposition, Outcome};
use crate::proxy::Proxy;
use crate::store::{Store, Totals};
use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use settlement::{Address, Nano};
use std::fmt::Write;
use std::sync::Arc;

pub(crate) fn router(proxy: Arc<Proxy>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/status", get(page))
        .route(
            "/status.json",
            get(async |State(proxy): State<Arc<Proxy>>| {
                Ok::<_, ApiError>(Json(Status::of(&proxy).await?))
            }),
        )
        .with_state(proxy)
}

/// All that the page shows.
#[derive(Debug, Serialize)]
struct Status {
    version: &'static str,
    uptime_s: u64,
    draining: bool,
    jobs_running: usize,
    jobs_waiting: usize,
    guests: Vec<GuestStatus>,
    money: Money,
}

#[derive(Debug, Serialize)]
struct GuestStatus {
    index: usize,
    address: String,
    /// `attested`, or why it was not when it was asked last, or `unknown`.
    state: &'static str,
    /// Since a client or this proxy last attested it; absent where nobody has yet.
    attested_s_ago: Option<u64>,
    attested_unix_s: Option<u64>,
    profile: Option<String>,
    keyset: Option<String>,
    models: Vec<String>,
    gpus: usize,
    jobs_running: usize,
    jobs_max: usize,
    jobs_answered: u64,
    jobs_refused: u64,
    jobs_cut: u64,
}

#[derive(Debug, Serialize)]
struct Money {
    payee: String,
    channels: u64,
    owed_nano: Nano,
    promised_nano: Nano,
    /// By this proxy's claims.
    claimed_nano: Nano,
    on_its_way_nano: Nano,
    unpaid_nano: Nano,
    /// The largest of what is unpaid.
    payouts_due: Vec<Due>,
}

#[derive(Debug, Serialize)]
struct Due {
    channel: Address,
    unpaid_nano: Nano,
}

impl Status {
    async fn of(proxy: &Proxy) -> Result<Status, ApiError> {
        let read = |store: &Store| Ok((store.totals()?, store.open_sum()?, store.unpaid()?));
        let read = proxy.store.on_disk(read).await;
        let (totals, (_, on_its_way_nano), unpaid) =
            read.map_err(|error: crate::error::Error| ApiError::internal(&error))?;
        Ok(Status {
            version: env!("CHRYSALIS_VERSION"),
            uptime_s: proxy.metrics.since.elapsed().as_secs(),
            draining: proxy.is_draining(),
            jobs_running: proxy.guests.running(),
            jobs_waiting: proxy.guests.waiting(),
            guests: proxy
                .guests
                .iter()
                .map(|guest| GuestStatus::of(proxy, guest))
                .collect(),
            money: Money::of(proxy, totals, on_its_way_nano, unpaid),
        })
    }
}

impl GuestStatus {
    fn of(proxy: &Proxy, guest: &Guest) -> Self {
        let (attested, refused) = guest.attestation();
        let ended = |outcome| proxy.metrics.jobs_of(guest.index, outcome);
        let seen = attested.as_ref();
        GuestStatus {
            index: guest.index,
            address: guest.address.to_string(),
            state: refused.unwrap_or(if seen.is_some() {
                "attested"
            } else {
                "unknown"
            }),
            attested_s_ago: seen.map(|seen| seen.at.elapsed().as_secs()),
            attested_unix_s: seen.map(|seen| seen.unix_s),
            profile: seen.map(|seen| seen.profile.clone()),
            keyset: seen.map(|seen| seen.keyset.to_string()),
            models: seen.map_or(Vec::new(), |seen| seen.models.clone()),
            gpus: seen.map_or(0, |seen| seen.gpus),
            jobs_running: guest.running(),
            jobs_max: guest.places_max,
            jobs_answered: ended(Outcome::Answered),
            jobs_refused: ended(Outcome::Refused),
            jobs_cut: ended(Outcome::Cut) + ended(Outcome::Slow) + ended(Outcome::Failed),
        }
    }
}

impl Money {
    fn of(
        proxy: &Proxy,
        totals: Totals,
        on_its_way_nano: Nano,
        mut unpaid: Vec<(Address, Nano)>,
    ) -> Self {
        unpaid.sort_by_key(|(channel, amount)| (std::cmp::Reverse(*amount), *channel));
        let sum = unpaid
            .iter()
            .map(|(_, amount)| amount.0)
            .fold(0, u64::saturating_add);
        let due = |(channel, unpaid_nano)| Due {
            channel,
            unpaid_nano,
        };
        Money {
            payee: proxy.payee.address().friendly_unbounceable(),
            channels: totals.channels,
            owed_nano: totals.owed,
            promised_nano: totals.promised,
            claimed_nano: totals.claimed,
            on_its_way_nano,
            unpaid_nano: Nano(sum),
            payouts_due: unpaid
                .into_iter()
                .take(STATUS_PAYOUTS_SHOWN)
                .map(due)
                .collect(),
        }
    }
}

async fn metrics(State(proxy): State<Arc<Proxy>>) -> Result<Response, ApiError> {
    let status = Status::of(&proxy).await?;
    let mut text = Exposition::default();
    proxy.metrics.write(&mut text);
    let flag = |value: bool| u8::from(value);
    text.one(
        "draining",
        "gauge",
        "1 while no new job is taken.",
        flag(status.draining),
    );
    text.one(
        "jobs_waiting",
        "gauge",
        "Jobs that wait for a guest.",
        status.jobs_waiting,
    );
    type Figure = fn(&GuestStatus) -> Option<u64>;
    let figures: [(&str, &str, Figure); 4] = [
        ("guest_jobs_running", "Jobs at the guest.", |of| {
            Some(of.jobs_running as u64)
        }),
        ("guest_jobs_max", "Jobs that it may have.", |of| {
            Some(of.jobs_max as u64)
        }),
        (
            "guest_attested",
            "1 if it was attested when it was asked last.",
            |of| Some((of.state == "attested").into()),
        ),
        (
            "guest_attestation_age_seconds",
            "Since it was last attested.",
            |of| of.attested_s_ago,
        ),
    ];
    for (name, help, figure) in figures {
        text.family(name, "gauge", help);
        for of in &status.guests {
            if let Some(value) = figure(of) {
                text.line(name, &format!("guest=\"{}\"", of.index), value);
            }
        }
    }
    let money = &status.money;
    for (name, help, value) in [
        (
            "channels",
            "Channels with a charge or a voucher.",
            money.channels,
        ),
        (
            "owed_nano",
            "Sum of all charges, in nanoTON.",
            money.owed_nano.0,
        ),
        (
            "promised_nano",
            "Sum of the highest vouchers, in nanoTON.",
            money.promised_nano.0,
        ),
        (
            "claimed_nano",
            "Paid out by claims, in nanoTON.",
            money.claimed_nano.0,
        ),
        (
            "unpaid_nano",
            "Promised and not yet paid, in nanoTON.",
            money.unpaid_nano.0,
        ),
    ] {
        text.one(name, "gauge", help, value);
    }
    Ok(([(CONTENT_TYPE, Exposition::CONTENT_TYPE)], text.0).into_response())
}

async fn page(State(proxy): State<Arc<Proxy>>) -> Result<Response, ApiError> {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'",
        ),
    ];
    Ok((headers, html(&Status::of(&proxy).await?)).into_response())
}

const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>host-proxy</title>\
<meta http-equiv=\"refresh\" content=\"10\"><style>body{font:15px/1.5 sans-serif;margin:2em auto;max-width:60em;padding:0 1em}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3em .8em .3em 0;border-bottom:1px solid #ccc;\
vertical-align:top}td.n,th.n{text-align:right}code{font-size:85%;word-break:break-all}.bad{color:#a00}</style></head><body>\n";

fn html(status: &Status) -> String {
    let mut page = HEAD.to_owned();
    let state = if status.draining {
        "draining: no new job is taken"
    } else {
        "serving"
    };
    // Writing to a text does not fail.
    let _ = write!(
        page,
        "<h1>host-proxy</h1><p>Version {}, up {} s, {state}. {} jobs run, {} wait.</p>\n<h2>Guests</h2>\n<table>\
         <tr><th>guest</th><th>state</th><th>attested</th><th>models</th><th class=n>jobs</th><th class=n>answered</th>\
         <th class=n>refused</th><th class=n>cut</th></tr>\n",
        escape(status.version),
        status.uptime_s,
        status.jobs_running,
        status.jobs_waiting
    );
    for guest in &status.guests {
        let attested = guest
            .attested_s_ago
            .map_or("never".to_owned(), |ago| format!("{ago} s ago"));
        let class = if guest.state == "attested" {
            ""
        } else {
            " class=bad"
        };
        let of = guest.profile.as_deref().unwrap_or("?");
        let _ = writeln!(
            page,
            "<tr><td>{} <code>{}</code></td><td{class}>{}</td><td>{attested}<br>{} <code>{}</code></td><td>{}</td>\
             <td class=n>{} of {}</td><td class=n>{}</td><td class=n>{}</td><td class=n>{}</td></tr>",
            guest.index,
            escape(&guest.address),
            guest.state,
            escape(of),
            guest.keyset.as_deref().unwrap_or(""),
            escape(&guest.models.join(", ")),
            guest.jobs_running,
            guest.jobs_max,
            guest.jobs_answered,
            guest.jobs_refused,
            guest.jobs_cut
        );
    }
    let money = &status.money;
    let _ = write!(
        page,
        "</table>\n<h2>Money</h2>\n<p>Payee <code>{}</code></p>\n<table>",
        escape(&money.payee)
    );
    for (name, amount) in [
        ("owed by charges", money.owed_nano),
        ("promised by vouchers", money.promised_nano),
        ("claimed", money.claimed_nano),
        ("on its way", money.on_its_way_nano),
        ("promised and unpaid", money.unpaid_nano),
    ] {
        let _ = writeln!(
            page,
            "<tr><td>{name}</td><td class=n>{}</td></tr>",
            amount.in_ton()
        );
    }
    let _ = writeln!(
        page,
        "</table>\n<h2>Payouts due</h2>\n<p>{} channels in all.</p>\n<table>",
        money.channels
    );
    for due in &money.payouts_due {
        let (channel, amount) = (due.channel, due.unpaid_nano.in_ton());
        let _ = writeln!(
            page,
            "<tr><td><code>{channel}</code></td><td class=n>{amount}</td></tr>"
        );
    }
    page.push_str("</table>\n</body></html>\n");
    page
}

/// A guest writes its profile and its models' names.
fn escape(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        other => other.to_string(),
    });
    escaped.collect()
}
