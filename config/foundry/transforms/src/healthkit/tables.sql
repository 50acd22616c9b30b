-- The tables of this package in DuckDB, from all raw files: the same as Spark makes. First name them:
--
--   SET TimeZone = 'UTC';
--   SET VARIABLE zone = 'UTC';  -- the time zone of days and nights
--   CREATE VIEW raw AS SELECT * FROM read_json('FOLDER/**/*.ndjson', format = 'newline_delimited',
--       maximum_object_size = 67108864, columns = {auth0_user_id: 'VARCHAR', device: 'VARCHAR',
--       ingested_at: 'VARCHAR', export_timestamp: 'VARCHAR', sample_type: 'VARCHAR',
--       source_name: 'VARCHAR', sample_class: 'VARCHAR', quantity_type: 'VARCHAR',
--       source_version: 'VARCHAR', data_type: 'VARCHAR', uuid: 'VARCHAR', start_date: 'VARCHAR',
--       end_date: 'VARCHAR', value_double: 'VARCHAR', unit: 'VARCHAR',
--       device_hardware_version: 'VARCHAR', device_model: 'VARCHAR', device_name: 'VARCHAR',
--       device_manufacturer: 'VARCHAR', device_software_version: 'VARCHAR',
--       raw_healthkit_record: 'VARCHAR'});
--
-- For Parquet: read_parquet('FOLDER/**/*.parquet', union_by_name = true).

CREATE OR REPLACE MACRO read_date(text) AS
    CASE WHEN regexp_matches(text, '^\s*((?:19|20|21)\d\d-\d\d-\d\d)[T ]((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(?:(\.\d{1,6})\d*)?\s*(Z|[+-](?:0\d|1[0-4]):?[0-5]\d)\s*$')
    THEN try_cast(regexp_replace(text, '^\s*((?:19|20|21)\d\d-\d\d-\d\d)[T ]((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(?:(\.\d{1,6})\d*)?\s*(Z|[+-](?:0\d|1[0-4]):?[0-5]\d)\s*$', '\1T\2\3\4') AS TIMESTAMPTZ) END;

CREATE OR REPLACE MACRO read_number(text) AS
    CASE WHEN regexp_matches(text, '^\s*-?\d+(\.\d+)?([eE][+-]?\d+)?\s*$')
        AND abs(try_cast(text AS DOUBLE)) <= 1.7976931348623157e308
    THEN try_cast(text AS DOUBLE) END;

CREATE OR REPLACE TABLE latest AS
WITH typed AS (
    SELECT
        coalesce(auth0_user_id, '') AS auth0_user_id,
        coalesce(nullif(uuid, ''), sha256(coalesce(raw_healthkit_record, ''))) AS sample_key,
        coalesce(uuid, '') <> '' AND coalesce(sample_type, '') = '' AND coalesce(start_date, '') = ''
            AS is_deleted,
        coalesce(sample_type, '') AS sample_type,
        read_date(start_date) AS start_date,
        read_date(end_date) AS end_date,
        read_number(CAST(value_double AS VARCHAR)) AS value_double,
        coalesce(unit, '') AS unit,
        coalesce(source_name, '') AS source_name,
        read_date(ingested_at) AS ingested_at,
        read_date(export_timestamp) AS export_timestamp,
        coalesce(device, '') AS device,
        coalesce(sample_class, '') AS sample_class,
        coalesce(quantity_type, '') AS quantity_type,
        coalesce(source_version, '') AS source_version,
        coalesce(data_type, '') AS data_type,
        coalesce(uuid, '') AS uuid,
        coalesce(device_hardware_version, '') AS device_hardware_version,
        coalesce(device_model, '') AS device_model,
        coalesce(device_name, '') AS device_name,
        coalesce(device_manufacturer, '') AS device_manufacturer,
        coalesce(device_software_version, '') AS device_software_version,
        coalesce(raw_healthkit_record, '') AS raw_healthkit_record,
        CASE WHEN read_date(start_date) IS NULL THEN nullif(start_date, '') END AS start_date_text,
        CASE WHEN read_date(end_date) IS NULL THEN nullif(end_date, '') END AS end_date_text,
        CASE WHEN read_date(ingested_at) IS NULL THEN nullif(ingested_at, '') END AS ingested_at_text,
        CASE WHEN read_date(export_timestamp) IS NULL THEN nullif(export_timestamp, '') END
            AS export_timestamp_text
    FROM raw
)
SELECT * FROM typed
QUALIFY row_number() OVER (
    PARTITION BY auth0_user_id, sample_key
    ORDER BY is_deleted DESC, ingested_at DESC NULLS LAST, export_timestamp DESC NULLS LAST,
        raw_healthkit_record DESC, device DESC) = 1;

CREATE OR REPLACE VIEW samples AS
WITH dated AS (
    SELECT *, CAST(timezone(getvariable('zone'), start_date) + CASE
        WHEN sample_type = 'HKCategoryTypeIdentifierSleepAnalysis' THEN INTERVAL 12 HOURS
        ELSE INTERVAL 0 HOURS END AS DATE) AS day
    FROM latest WHERE NOT is_deleted
)
SELECT * EXCLUDE (is_deleted), coalesce(strftime(day, '%Y-%m'), 'none') AS month FROM dated;

CREATE OR REPLACE VIEW deletions AS
SELECT auth0_user_id, sample_key FROM latest WHERE is_deleted;

CREATE OR REPLACE MACRO aggregation(kind) AS CASE
    WHEN starts_with(kind, 'HKQuantityTypeIdentifierDietary')
        OR replace(kind, 'HKQuantityTypeIdentifier', '') IN (
            'ActiveEnergyBurned', 'AppleExerciseTime', 'AppleMoveTime', 'AppleStandTime',
            'BasalEnergyBurned', 'DistanceCrossCountrySkiing', 'DistanceCycling',
            'DistanceDownhillSnowSports', 'DistancePaddleSports', 'DistanceRowing',
            'DistanceSkatingSports', 'DistanceSwimming', 'DistanceWalkingRunning',
            'DistanceWheelchair', 'FlightsClimbed', 'InhalerUsage', 'InsulinDelivery', 'NikeFuel',
            'NumberOfAlcoholicBeverages', 'NumberOfTimesFallen', 'PushCount', 'StepCount',
            'SwimmingStrokeCount', 'TimeInDaylight')
            AND starts_with(kind, 'HKQuantityTypeIdentifier') THEN 'sum'
    WHEN starts_with(kind, 'HKCategoryTypeIdentifier')
        OR starts_with(kind, 'HKCorrelationTypeIdentifier')
        OR starts_with(kind, 'HKWorkoutTypeIdentifier') THEN 'count'
    ELSE 'mean' END;

CREATE OR REPLACE VIEW daily AS
WITH by_source AS (
    SELECT auth0_user_id, sample_type, unit, day, month, source_name,
        date_trunc('hour', start_date) AS hour, count(*) AS samples, count(value_double) AS numbers,
        sum(value_double) AS total, min(value_double) AS low, max(value_double) AS high
    FROM samples WHERE day IS NOT NULL AND sample_type <> '' GROUP BY ALL
), by_hour AS (
    SELECT auth0_user_id, sample_type, unit, day, month, hour, sum(samples) AS samples,
        sum(numbers) AS numbers, sum(total) AS total, max(total) AS largest, min(low) AS low,
        max(high) AS high
    FROM by_source GROUP BY ALL
)
SELECT auth0_user_id, sample_type, unit, day, CAST(sum(samples) AS BIGINT) AS samples,
    CASE WHEN aggregation(sample_type) = 'sum' THEN sum(largest) END AS value_sum,
    CASE WHEN aggregation(sample_type) = 'mean' THEN sum(total) / nullif(sum(numbers), 0) END
        AS value_mean,
    CASE WHEN aggregation(sample_type) = 'mean' THEN min(low) END AS value_min,
    CASE WHEN aggregation(sample_type) = 'mean' THEN max(high) END AS value_max,
    month
FROM by_hour GROUP BY auth0_user_id, sample_type, unit, day, month;

CREATE OR REPLACE VIEW sleep AS
WITH stages AS (
    SELECT auth0_user_id, day, month, source_name, start_date, end_date,
        epoch_us(start_date) AS began, epoch_us(end_date) AS ended,
        unnest(CASE value_double WHEN 0 THEN ['in_bed'] WHEN 1 THEN ['unspecified', 'asleep']
            WHEN 2 THEN ['awake'] WHEN 3 THEN ['core', 'asleep'] WHEN 4 THEN ['deep', 'asleep']
            WHEN 5 THEN ['rem', 'asleep'] END) AS stage
    FROM samples
    WHERE sample_type = 'HKCategoryTypeIdentifierSleepAnalysis'
        AND end_date > start_date AND epoch_us(end_date) - epoch_us(start_date) <= 86400000000
), added AS (
    SELECT *, greatest(0, ended - greatest(began, coalesce(max(ended) OVER (
        PARTITION BY auth0_user_id, day, month, source_name, stage ORDER BY began, ended
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), began))) AS us
    FROM stages
), by_source AS (
    SELECT auth0_user_id, day AS night, source_name,
        coalesce(sum(us) FILTER (stage = 'asleep'), 0) / 6e7::DOUBLE AS asleep_minutes,
        coalesce(sum(us) FILTER (stage = 'core'), 0) / 6e7::DOUBLE AS core_minutes,
        coalesce(sum(us) FILTER (stage = 'deep'), 0) / 6e7::DOUBLE AS deep_minutes,
        coalesce(sum(us) FILTER (stage = 'rem'), 0) / 6e7::DOUBLE AS rem_minutes,
        coalesce(sum(us) FILTER (stage = 'unspecified'), 0) / 6e7::DOUBLE AS unspecified_minutes,
        coalesce(sum(us) FILTER (stage = 'awake'), 0) / 6e7::DOUBLE AS awake_minutes,
        coalesce(sum(us) FILTER (stage = 'in_bed'), 0) / 6e7::DOUBLE AS in_bed_minutes,
        min(start_date) FILTER (stage = 'asleep') AS asleep_from,
        max(end_date) FILTER (stage = 'asleep') AS asleep_until,
        month
    FROM added GROUP BY auth0_user_id, day, month, source_name
)
SELECT * REPLACE (max(in_bed_minutes) OVER (PARTITION BY auth0_user_id, night) AS in_bed_minutes)
FROM by_source
QUALIFY row_number() OVER (PARTITION BY auth0_user_id, night
    ORDER BY asleep_minutes DESC, by_source.in_bed_minutes DESC, source_name) = 1;

CREATE OR REPLACE VIEW workouts AS
SELECT auth0_user_id, sample_key, raw_healthkit_record ->> '$.activityType' AS activity_type,
    start_date, end_date,
    coalesce(read_number(raw_healthkit_record ->> '$.durationSeconds'),
        (epoch_us(end_date) - epoch_us(start_date)) / 1e6::DOUBLE) AS duration_seconds,
    read_number(raw_healthkit_record ->> '$.activeEnergyKilocalories') AS active_energy_kcal,
    read_number(raw_healthkit_record ->> '$.totalEnergyKilocalories') AS total_energy_kcal,
    read_number(raw_healthkit_record ->> '$.totalDistanceMeters') AS distance_m,
    source_name, day, month
FROM samples WHERE data_type = 'workout' OR sample_type = 'HKWorkoutTypeIdentifier';
