//! The whole decision: decoder, rules, answer, at every endpoint and in every scene.

use std::hash::{DefaultHasher, Hasher as _};

use futures::FutureExt as _;
use serde_json::Value;
use webhook::{
    admission::{
        answer::{self, Verdict},
        review::{self, Request},
    },
    serve::decide::Endpoint,
};

use super::{
    oracle,
    scenes::{SCENES, Scene},
};

/// No bytes make it panic, get a wrong yes, or an answer that the API server cannot read.
pub fn decision(body: &[u8]) {
    decide_in(&SCENES, body);
}

/// As [`decision`], in one of the scenes, which the bytes choose: several times as many executions a second.
pub fn decision_in_a_scene(body: &[u8]) {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    let scene = usize::try_from(hasher.finish() % SCENES.len() as u64).unwrap_or_default();
    decide_in(&SCENES[scene..=scene], body);
}

fn decide_in(scenes: &[Scene], body: &[u8]) {
    let Ok(request) = review::decode(body) else {
        // The handler answers 400 without a verdict.
        return;
    };
    // Values nest less deeply than the decoder skips; the oracle is silent about what it cannot read.
    let review: Option<Value> = serde_json::from_slice(body).ok();
    for scene in scenes {
        for endpoint in [Endpoint::Validate, Endpoint::Report, Endpoint::Mutate, Endpoint::Hold] {
            let verdict =
                scene.decider.decide(endpoint, &request).now_or_never().expect("facts in memory are at hand");
            check_answer(&request, &verdict);
            if let Some(review) = &review {
                check_verdict(scene, endpoint, review, &verdict);
                check_patch(scene, endpoint, &request, review, &verdict);
            }
        }
    }
}

fn check_answer(request: &Request<'_>, verdict: &Verdict) {
    let answer: Value =
        serde_json::from_slice(&answer::encode(&request.uid, verdict)).expect("the answer is JSON");
    let response = &answer["response"];
    assert_eq!(response["uid"], request.uid.as_str());
    assert_eq!(response["allowed"], verdict.allowed());
    assert!(!verdict.reason.is_empty());
    if verdict.allowed() {
        assert!(response.get("status").is_none(), "an admission has no status");
    } else {
        let message = response["status"]["message"].as_str().expect("a refusal says why");
        assert!(!message.is_empty() && response.get("patch").is_none());
    }
}

fn check_verdict(scene: &Scene, endpoint: Endpoint, review: &Value, verdict: &Verdict) {
    assert_eq!((&review["kind"], &review["apiVersion"]), (&review::KIND.into(), &review::API_VERSION.into()));
    if let Some(why) = oracle::forbids(scene, endpoint, review) {
        assert!(
            !verdict.allowed(),
            "{} at {}: admitted as {:?}, but {why}",
            scene.name,
            endpoint.name(),
            verdict.reason
        );
    }
}

/// A patch applies to the object it was made for, and what comes out needs none.
fn check_patch(scene: &Scene, endpoint: Endpoint, request: &Request<'_>, review: &Value, verdict: &Verdict) {
    let Some(patch) = &verdict.patch else { return };
    if !review["request"]["object"]["spec"].is_object() {
        // The API server sends no pod without one, and refuses a patch that does not apply.
        return;
    }
    let patch: json_patch::Patch = serde_json::from_slice(patch).expect("the patch is a JSON Patch");
    let mut object = review["request"]["object"].clone();
    json_patch::patch(&mut object, &patch).expect("the patch applies to its object");
    let object = serde_json::value::to_raw_value(&object).expect("a value is JSON");
    let again = Request { object: Some(&object), ..request.clone() };
    let second = scene.decider.decide(endpoint, &again).now_or_never().expect("facts in memory are at hand");
    assert!(second.allowed() && second.patch.is_none(), "the second pass is not idle: {second:?}");
}
