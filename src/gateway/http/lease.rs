//! Messages received with a lease, and what becomes of them.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use super::answer::{Answered, Refusal, json, success};
use super::queue::change;
use super::request::Call;
use super::server::Phase;
use super::text::Text;
use super::waiting::WakeUp;
use super::{Gateway, change};
use crate::machine::command::{Answer, Query};
use crate::machine::queue::command::{
    Delivery, MAX_LEASE_MS, MAX_RECEIVED, QueueAnswer, QueueChange, QueueQuery, Settlement, USUAL_LEASE_MS,
};
use crate::transport::Failure;

/// Longest time that a client waits for a message.
const MAX_WAIT_MS: u64 = 60_000;
/// `POST /message/{topic}/receive`.
#[derive(Serialize)]
struct Received {
    success: bool,
    messages: Vec<Message>,
}

#[derive(Serialize)]
struct Message {
    id: u64,
    message: Text,
    deliveries: u32,
    lease: u64,
}

/// Leases messages, and waits for one if there is none. While it waits nothing is leased, so a client may go away.
pub async fn receive(gateway: Arc<Gateway>, call: Call) -> Answered {
    let query = call.query(&["wait_ms", "lease_ms", "max"])?;
    let wait_ms = query.number("wait_ms", 0, 0..=MAX_WAIT_MS)?;
    let lease_ms = query.number("lease_ms", USUAL_LEASE_MS, 1..=MAX_LEASE_MS)?;
    let max = query.number("max", 1, 1..=MAX_RECEIVED)?;
    let attempt = || change(&gateway, &call, QueueChange::Receive { max, lease_ms });
    // What a key stands for happens once: so it is kept until there is something to receive, or no more time.
    let key = change::key(&call)?;
    let only_once = key.is_some();
    // What was answered before is not waited for: its lease is running.
    let is_repeated = match key {
        Some(key) => is_answered(&gateway, &call, key).await?,
        None => false,
    };
    let deadline = Instant::now() + Duration::from_millis(wait_ms);
    let waiter = gateway.waiters.join(call.name());
    let mut closing = gateway.phases.clone();
    let mut wake_up = None;
    loop {
        // From here on no message is missed.
        let mut notified = pin!(waiter.notified());
        notified.as_mut().enable();
        let is_late = Instant::now() >= deadline;
        let attempted = if !only_once || is_repeated || is_late || has_ready(&gateway, &call).await? {
            Some(deliveries(attempt().await?)?)
        } else {
            None
        };
        wake_up.take().into_iter().for_each(WakeUp::use_up);
        if let Some(deliveries) = attempted
            && (!deliveries.is_empty() || only_once || is_late)
        {
            return Ok(received(&gateway, deliveries));
        }
        tokio::select! {
            () = notified => wake_up = Some(waiter.woken()),
            () = sleep_until(deadline) => {}
            () = call.client.gone() => return Ok(received(&gateway, Vec::new())),
            _ = closing.wait_for(|phase| *phase != Phase::Serving) => {
                return Err(Failure::NotReady("this node is shutting down; nothing was received".into()).into());
            }
        }
        let is_over = wake_up.is_none() && !only_once && Instant::now() >= deadline;
        if is_over || call.client.is_gone() {
            return Ok(received(&gateway, Vec::new()));
        }
    }
}

fn deliveries(answer: Answer) -> Result<Vec<Delivery>, Refusal> {
    match answer {
        Answer::Queue(QueueAnswer::Deliveries(deliveries)) => Ok(deliveries),
        Answer::Queue(QueueAnswer::NoTopic) => Err(Refusal::no_such_topic()),
        _ => Err(Refusal::another()),
    }
}

fn received(gateway: &Gateway, deliveries: Vec<Delivery>) -> axum::response::Response {
    let messages = deliveries.into_iter().map(|delivery| {
        let Delivery { id, message, deliveries, lease } = delivery;
        Message { id, message: Text(message), deliveries, lease }
    });
    json(gateway, StatusCode::OK, &Received { success: true, messages: messages.collect() })
}

/// Whether a request with this key has its answer already.
async fn is_answered(gateway: &Gateway, call: &Call, key: Bytes) -> Result<bool, Refusal> {
    match gateway.read(call.client.connection, Query::IsAnswered { key }).await? {
        Answer::Count(count) => Ok(count > 0),
        _ => Err(Refusal::another()),
    }
}

/// Whether the topic has a message that is not leased.
async fn has_ready(gateway: &Gateway, call: &Call) -> Result<bool, Refusal> {
    let info = Query::Queue(QueueQuery::Info { topic: call.name() });
    match gateway.read(call.client.connection, info).await? {
        Answer::Queue(QueueAnswer::Info(info)) => Ok(info.messages > info.leased),
        Answer::Queue(QueueAnswer::NoTopic) => Err(Refusal::no_such_topic()),
        _ => Err(Refusal::another()),
    }
}

/// Names a lease.
#[derive(Deserialize)]
struct Lease {
    id: u64,
    lease: u64,
    lease_ms: Option<u64>,
}

pub async fn ack(gateway: Arc<Gateway>, call: Call) -> Answered {
    settle(gateway, call, |_| Ok(Settlement::Ack)).await
}

pub async fn nack(gateway: Arc<Gateway>, call: Call) -> Answered {
    settle(gateway, call, |_| Ok(Settlement::Nack)).await
}

pub async fn extend(gateway: Arc<Gateway>, call: Call) -> Answered {
    settle(gateway, call, |lease| match lease.lease_ms.unwrap_or(USUAL_LEASE_MS) {
        lease_ms @ 1..=MAX_LEASE_MS => Ok(Settlement::Extend { lease_ms }),
        lease_ms => {
            Err(Refusal::malformed(format!("lease_ms is {lease_ms}, but a lease lasts 1 to {MAX_LEASE_MS} ms")))
        }
    })
    .await
}

async fn settle(gateway: Arc<Gateway>, call: Call, how: fn(&Lease) -> Result<Settlement, Refusal>) -> Answered {
    let named: Lease = call.json()?;
    let how = how(&named)?;
    let Lease { id, lease, .. } = named;
    match change(&gateway, &call, QueueChange::Settle { id, lease, how }).await? {
        Answer::Queue(QueueAnswer::Settled) => Ok(success(&gateway, StatusCode::OK)),
        Answer::Queue(QueueAnswer::NoTopic) => Err(Refusal::no_such_topic()),
        Answer::Queue(QueueAnswer::LeaseLost) => {
            let message = "there is no such lease any more: it expired or was settled";
            Err(Refusal::new(StatusCode::CONFLICT, "stale_lease", message))
        }
        _ => Err(Refusal::another()),
    }
}
