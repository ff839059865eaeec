//! Fault points: places where the program aborts, so that tests can crash it there. Off unless a flag allows them.

use std::{fmt, str::FromStr};

use super::Step;

/// The moment of a step at which to abort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the effect.
    Before,
    /// After the effect, before the journal hears of it.
    During,
    /// After the journal recorded the effect.
    After,
    /// After the effect is undone, before the journal hears of it.
    Undo,
}

impl Moment {
    /// All moments.
    pub const ALL: [Self; 4] = [Self::Before, Self::During, Self::After, Self::Undo];

    /// The moment's name in a fault point.
    pub fn name(self) -> &'static str {
        match self {
            Self::Before => "abort-before",
            Self::During => "abort-during",
            Self::After => "abort-after",
            Self::Undo => "abort-undo",
        }
    }
}

/// Where to abort: `abort-before:STEP`, `abort-during:STEP`, `abort-after:STEP` or `abort-undo:STEP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultPoint {
    /// When.
    pub moment: Moment,
    /// In which step.
    pub step: Step,
}

impl FaultPoint {
    /// Ends the process at once, as a crash would, if `moment` of `step` is this point.
    pub fn reached(self, moment: Moment, step: Step) {
        if self == (Self { moment, step }) {
            tracing::error!(point = %self, "fault point reached");
            std::process::abort();
        }
    }
}

/// Not a fault point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a fault point such as abort-during:quota")]
pub struct InvalidFaultPoint;

impl FromStr for FaultPoint {
    type Err = InvalidFaultPoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (moment, step) = text.split_once(':').ok_or(InvalidFaultPoint)?;
        let moment = Moment::ALL.into_iter().find(|known| known.name() == moment).ok_or(InvalidFaultPoint)?;
        let step = Step::from_name(step).ok_or(InvalidFaultPoint)?;
        Ok(Self { moment, step })
    }
}

impl fmt::Display for FaultPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.moment.name(), self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_reads_back() {
        for moment in Moment::ALL {
            for step in Step::ALL {
                let point = FaultPoint { moment, step };
                assert_eq!(point.to_string().parse(), Ok(point));
            }
        }
        for bad in ["", "quota", "abort-before:", "abort-never:quota", "abort-before:nothing"] {
            assert_eq!(bad.parse::<FaultPoint>(), Err(InvalidFaultPoint), "{bad}");
        }
    }
}
