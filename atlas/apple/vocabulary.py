"""Apple's constants and units: https://developer.apple.com/documentation/healthkit

For the value of a category, an export has the name of the constant, and the app sends its number
(HKCategoryValues.h). A constant that Apple renamed is listed under both names.
"""

from functools import lru_cache

SLEEP = "HKCategoryTypeIdentifierSleepAnalysis"
QUANTITY = "HKQuantityTypeIdentifier"
WORKOUT = "HKWorkoutTypeIdentifier"
ACTIVITY = "HKWorkoutActivityType"
CUMULATIVE, DISCRETE = "HKCumulativeQuantitySample", "HKDiscreteQuantitySample"

# enumeration: its constants, each with its number
ENUMERATIONS = {
    "": "NotApplicable=0",
    "SleepAnalysis": (
        "InBed=0 Asleep=1 AsleepUnspecified=1 Awake=2 AsleepCore=3 AsleepDeep=4 AsleepREM=5"
    ),
    "AppleStandHour": "Stood=0 Idle=1",
    "Severity": "Unspecified=0 NotPresent=1 Mild=2 Moderate=3 Severe=4",
    "Presence": "Present=0 NotPresent=1",
    "AppetiteChanges": "Unspecified=0 NoChange=1 Decreased=2 Increased=3",
    "MenstrualFlow": "NotApplicable=0 Unspecified=1 Light=2 Medium=3 Heavy=4 None=5",
    "VaginalBleeding": "Unspecified=1 Light=2 Medium=3 Heavy=4 None=5",
    "CervicalMucusQuality": "NotApplicable=0 Dry=1 Sticky=2 Creamy=3 Watery=4 EggWhite=5",
    "OvulationTestResult": (
        "Negative=1 Positive=2 LuteinizingHormoneSurge=2 Indeterminate=3 EstrogenSurge=4"
    ),
    "PregnancyTestResult": "Negative=1 Positive=2 Indeterminate=3",
    "ProgesteroneTestResult": "Negative=1 Positive=2 Indeterminate=3",
    "Contraceptive": (
        "Unspecified=1 Implant=2 Injection=3 IntrauterineDevice=4 IntravaginalRing=5 Oral=6 Patch=7"
    ),
    "AudioExposureEvent": "LoudEnvironment=1",
    "EnvironmentalAudioExposureEvent": "MomentaryLimit=1",
    "HeadphoneAudioExposureEvent": "SevenDayLimit=1",
    "LowCardioFitnessEvent": "LowFitness=1",
    "AppleWalkingSteadinessEvent": "InitialLow=1 InitialVeryLow=2 RepeatLow=3 RepeatVeryLow=4",
}


def list_category_numbers() -> dict[str, int]:
    """Map the full names to the numbers: HKCategoryValueSleepAnalysisAsleepCore to 3."""
    numbers = {}
    for enumeration, constants in ENUMERATIONS.items():
        for constant in constants.split():
            name, _, number = constant.partition("=")
            numbers[f"HKCategoryValue{enumeration}{name}"] = int(number)
    return numbers


NUMBERS = list_category_numbers()

# The app's names: the cases of HKCategoryValueSleepAnalysis in Swift.
SLEEP_STAGES = ("inBed", "asleepUnspecified", "awake", "asleepCore", "asleepDeep", "asleepREM")

# The cumulative types of HKTypeIdentifiers.h. All types of food and distance are cumulative, too.
CUMULATIVE_TYPES = """
ActiveEnergyBurned AppleExerciseTime AppleMoveTime AppleStandTime BasalEnergyBurned FlightsClimbed
InhalerUsage InsulinDelivery NikeFuel NumberOfAlcoholicBeverages NumberOfTimesFallen PushCount
StepCount SwimmingStrokeCount TimeInDaylight
"""
CUMULATIVE_IDENTIFIERS = frozenset(QUANTITY + name for name in CUMULATIVE_TYPES.split())
CUMULATIVE_PREFIXES = (QUANTITY + "Dietary", QUANTITY + "Distance")

# Boolean metadata, written as 1 or 0.
FLAGS = frozenset({"HKWasUserEntered", "HKIndoorWorkout", "HKCoachedWorkout", "HKGroupFitness"})

SECONDS = {"s": 1.0, "ms": 0.001, "min": 60.0, "hr": 3_600.0, "d": 86_400.0}
METERS = {
    "m": 1.0,
    "km": 1_000.0,
    "cm": 0.01,
    "mm": 0.001,
    "mi": 1_609.344,
    "yd": 0.9144,
    "ft": 0.3048,
    "in": 0.0254,
}
KILOCALORIES = {"kcal": 1.0, "Cal": 1.0, "cal": 0.001, "kJ": 1 / 4.184, "J": 1 / 4_184}


@lru_cache(maxsize=1_024)
def find_quantity_class(sample_type: str) -> str:
    """Return the class of the samples of a type. Unknown types count as discrete."""
    is_cumulative = sample_type in CUMULATIVE_IDENTIFIERS or sample_type.startswith(
        CUMULATIVE_PREFIXES
    )
    return CUMULATIVE if is_cumulative else DISCRETE
