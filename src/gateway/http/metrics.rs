//! `GET /metrics`: what the node counts, in the words of Prometheus.

use std::fmt;
use std::sync::Arc;

use axum::http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::NoLabelSet;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::Gateway;
use super::answer::{Answered, Refusal, body};
use super::request::Call;
use super::status::role;
use crate::runtime::NodeStatus;
use crate::runtime::metrics::{BOUNDS_US, Counter, Histogram};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub async fn metrics(gateway: Arc<Gateway>, _call: Call) -> Answered {
    let scrape = Scrape { status: gateway.status().await?, gateway: Arc::clone(&gateway) };
    let mut registry = Registry::with_prefix("raft");
    registry.register_collector(Box::new(scrape));
    let mut written = String::new();
    text::encode(&mut written, &registry).map_err(|error| Refusal::unreadable(&error.to_string()))?;
    Ok(body(&gateway, StatusCode::OK, CONTENT_TYPE, written.into()))
}

/// The numbers of one moment.
struct Scrape {
    status: NodeStatus,
    gateway: Arc<Gateway>,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.status.fmt(f)
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page(encoder);
        self.protocol(&mut page)?;
        self.work(&mut page)?;
        self.clients(&mut page)
    }
}

impl Scrape {
    /// The node's place in its cluster.
    fn protocol(&self, page: &mut Page<'_>) -> fmt::Result {
        let NodeStatus { term, leader, last, commit, applied, peers, .. } = &self.status;
        let mine = role(self.status.role);
        let roles = ["Leader", "Candidate", "Follower"].map(|role| (role, u64::from(role == mine)));
        page.gauges("role", "1 for the role that the node has", "role", &roles)?;
        page.gauge("term", "The node's term", *term)?;
        page.gauge("leader", "Id of the leader that the node knows; 0 if none", leader.map_or(0, |leader| leader.0))?;
        page.gauge("last_index", "Last index of the log", *last)?;
        page.gauge("commit_index", "Commit index", *commit)?;
        page.gauge("applied_index", "Last index that the state machine has applied", *applied)?;
        let lag = |matched: u64| last.saturating_sub(matched);
        let peer_lag: Vec<_> = peers.iter().map(|peer| (self.gateway.label(peer.id), lag(peer.matched))).collect();
        page.gauges(
            "peer_lag_entries",
            "Entries of the leader's log that a peer is not known to have",
            "peer",
            &peer_lag,
        )?;
        let heard: Vec<_> = peers.iter().map(|peer| (self.gateway.label(peer.id), peer.heard_ms)).collect();
        page.gauges("peer_silence_milliseconds", "Since the leader has heard from a peer", "peer", &heard)?;
        let metrics = self.gateway.node.metrics();
        page.counter("elections", "Elections that this node has begun", &metrics.elections)?;
        page.counter("elections_won", "Elections that this node has won", &metrics.elections_won)
    }

    /// The disk, and what waits.
    fn work(&self, page: &mut Page<'_>) -> fmt::Result {
        let node = &self.gateway.node;
        let metrics = node.metrics();
        page.histogram("fsync", "How long a batch of the log took to become durable", &metrics.sync)?;
        page.histogram("commit_latency", "From a proposal at this leader to its commitment", &metrics.commit)?;
        page.counter("log_bytes", "Bytes of commands written to the log", &metrics.log_bytes)?;
        let (internal, clients) = node.waiting_inputs();
        let NodeStatus { commit, applied, .. } = &self.status;
        let queues =
            [("internal", internal as u64), ("clients", clients as u64), ("apply", commit.saturating_sub(*applied))];
        page.gauges("queue_length", "Inputs, requests, and committed entries that wait to be taken", "queue", &queues)
    }

    /// Clients, and where they met limits.
    fn clients(&self, page: &mut Page<'_>) -> fmt::Result {
        let Gateway { options, traffic, output_bytes, node, .. } = &*self.gateway;
        let metrics = node.metrics();
        page.gauge("clients", "Connections of clients, through all doors", options.seats.taken() as u64)?;
        page.counter("http_received_bytes", "Bytes from HTTP clients", &traffic.received_bytes)?;
        page.counter("http_sent_bytes", "Bytes to HTTP clients", &traffic.sent_bytes)?;
        page.counter("http_requests", "Requests of HTTP clients", &traffic.requests)?;
        page.gauge(
            "http_output_bytes",
            "Bytes of answers that HTTP clients have not taken yet",
            output_bytes.get() as u64,
        )?;
        let limits = [
            ("inbox", &metrics.inbox_full),
            ("unanswered", &metrics.too_much_unanswered),
            ("connections", &traffic.turned_away),
            ("http_bytes", &traffic.too_many_bytes),
            ("request_bytes", &traffic.too_large),
        ];
        page.counters("limits_hit", "Requests and connections refused because of a limit", "limit", &limits)
    }
}

/// Where metrics are written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn open<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, unit, kind)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        ConstGauge::new(value).encode(self.open(name, help, None, MetricType::Gauge)?)
    }

    fn gauges(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) -> fmt::Result {
        let mut family = self.open(name, help, None, MetricType::Gauge)?;
        values.iter().try_for_each(|(of, value)| ConstGauge::new(*value).encode(family.encode_family(&[(label, *of)])?))
    }

    fn counter(&mut self, name: &str, help: &str, counter: &Counter) -> fmt::Result {
        ConstCounter::new(counter.get()).encode(self.open(name, help, None, MetricType::Counter)?)
    }

    fn counters(&mut self, name: &str, help: &str, label: &str, counters: &[(&str, &Counter)]) -> fmt::Result {
        let mut family = self.open(name, help, None, MetricType::Counter)?;
        counters.iter().try_for_each(|(of, counter)| {
            ConstCounter::new(counter.get()).encode(family.encode_family(&[(label, *of)])?)
        })
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let counts = histogram.counts();
        let bounds = BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let mut encoder = self.open(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        let count = counts.iter().sum();
        encoder.encode_histogram::<NoLabelSet>(histogram.sum().as_secs_f64(), count, &buckets, None)
    }
}
