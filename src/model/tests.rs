//! What the values promise.

use super::*;

#[test]
fn specs_of_known_sums_come_out_as_they_went_in() {
    let sums: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/data/sums.json")).expect("sums.json");
    for entry in sums.as_array().expect("a list") {
        let text = entry["spec"].as_str().expect("spec");
        let spec: Spec = text.parse().expect(text);
        assert_eq!(spec.to_string(), text);
        assert_eq!(
            spec.program_name(),
            entry["file"].as_str().expect("file"),
            "{text}"
        );
        let sum = entry["sum"].as_str().expect("sum");
        assert_eq!(sum.parse::<Sum>().expect(sum).to_string(), sum);
    }
}
