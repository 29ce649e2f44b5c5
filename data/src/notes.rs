//! What is odd about the classes of a data set.

use super::dataset::{Dataset, Split};

/// Classes that are named; the others are counted.
const NAMED: usize = 10;

/// Notes for people: classes without images, without test images, and with too few to hold one out for validation.
pub(super) fn classes(dataset: &Dataset) -> Vec<String> {
    let count = |split: &Split| {
        let mut counts = vec![0_usize; dataset.classes.len()];
        split.labels().iter().for_each(|&label| counts[usize::from(label)] += 1);
        counts
    };
    let (train, test) = (count(&dataset.train), count(&dataset.test));
    let named = |is_odd: &dyn Fn(usize) -> bool| -> Vec<&str> {
        (0..dataset.classes.len()).filter(|&class| is_odd(class)).map(|class| dataset.classes[class].as_str()).collect()
    };
    let notes = [
        ("no images; nothing is learned about them", named(&|class| train[class] == 0 && test[class] == 0)),
        ("test images but none to train on", named(&|class| train[class] == 0 && test[class] > 0)),
        ("no test images; the test accuracy does not count them", named(&|class| train[class] > 0 && test[class] == 0)),
        ("one training image each; none is left to validate on", named(&|class| train[class] == 1)),
    ];
    notes
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| note(&names, dataset.classes.len(), what))
        .collect()
}

fn note(names: &[&str], all: usize, what: &str) -> String {
    let more = if names.len() > NAMED { format!(" and {} more", names.len() - NAMED) } else { String::new() };
    let listed = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    format!("{} of {all} classes have {what}: {listed}{more}", names.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bloctrain_shared::ImageShape;

    #[test]
    fn classes_are_named_by_what_they_lack() {
        let split = |labels: &[u16]| Split::new(labels.to_vec(), vec![0; labels.len()], 1);
        let names = ["ant", "bee", "cow", "dog", "eel"].map(str::to_owned).to_vec();
        let dataset = Dataset::new("d", names, ImageShape::new(1, 1, 1), split(&[0, 0, 1, 2, 2]), split(&[0, 1, 3]));
        let notes = classes(&dataset);
        assert!(
            notes[0].contains("no images") && notes[0].contains("`eel`") && notes[0].starts_with("1 of 5"),
            "{notes:?}"
        );
        assert!(notes[1].contains("none to train on") && notes[1].contains("`dog`"), "{notes:?}");
        assert!(notes[2].contains("no test images") && notes[2].contains("`cow`"), "{notes:?}");
        assert!(notes[3].contains("one training image") && notes[3].contains("`bee`"), "{notes:?}");
        let many = Dataset::new(
            "d",
            (0..30).map(|name| name.to_string()).collect(),
            dataset.shape,
            split(&[0, 0]),
            split(&[0]),
        );
        assert!(classes(&many)[0].contains("`10` and 19 more"), "{:?}", classes(&many));
    }
}
