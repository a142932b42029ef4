-- A run of the workflow. Running it again from its beginning makes another row of the same workflow.
CREATE TABLE import (
    id         INTEGER PRIMARY KEY,
    workflow   TEXT    NOT NULL,
    started_at INTEGER NOT NULL -- milliseconds since 1970
) STRICT;
CREATE INDEX import_of_workflow ON import (workflow, id);

CREATE TABLE airport (
    pass        INTEGER NOT NULL, -- which reading of the file, from 0
    icao        TEXT    NOT NULL,
    iata        TEXT,
    name        TEXT    NOT NULL,
    city        TEXT,
    subdivision TEXT,
    country     TEXT    NOT NULL, -- ISO 3166 alpha-2
    elevation   REAL    NOT NULL, -- feet above the sea
    latitude    REAL    NOT NULL, -- degrees, north positive
    longitude   REAL    NOT NULL, -- degrees, east positive
    time_zone   TEXT    NOT NULL,
    local_code  TEXT,
    import      INTEGER NOT NULL REFERENCES import (id), -- the last one that brought it
    added_by    INTEGER NOT NULL REFERENCES import (id), -- the first one
    PRIMARY KEY (pass, icao)
) STRICT, WITHOUT ROWID;

CREATE TABLE territory (
    code             TEXT    NOT NULL PRIMARY KEY, -- ISO 3166 alpha-2
    name             TEXT    NOT NULL,
    gdp              REAL    NOT NULL, -- US dollars
    literacy_percent REAL    NOT NULL,
    population       INTEGER NOT NULL,
    import           INTEGER NOT NULL REFERENCES import (id)
) STRICT, WITHOUT ROWID;
