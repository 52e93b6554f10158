// The tables and statements of records in PostgreSQL, and migrations from the schemas of older releases.
import type pg from 'pg';
import { RecordStoreFailed } from './store.ts';

const MIGRATION_MS = 3_600_000;

/** Runs in one transaction, in one process at a time. Throws RecordStoreFailed for the schema of a newer release. */
export async function migrate(client: pg.Client, schema: string): Promise<void> {
  const query = (text: string, values: readonly unknown[] = []) =>
    client.query({ text, values: [...values], query_timeout: MIGRATION_MS } as pg.QueryConfig);
  await client.query('BEGIN');
  try {
    // However many records there are, and also for those that wait for it: other processes, and commands.
    await client.query(`SET LOCAL statement_timeout = ${MIGRATION_MS}`);
    await query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`veneer_${schema}_migration`]);
    await query(`CREATE SCHEMA IF NOT EXISTS ${schema}`);
    await query(`CREATE TABLE IF NOT EXISTS ${schema}.migrations (version integer NOT NULL)`);
    const { rows } = await query(`SELECT coalesce(max(version), 0) AS version FROM ${schema}.migrations`);
    const version = Number(rows[0]?.version);
    if (version > MIGRATIONS.length) {
      throw new RecordStoreFailed(
        `the schema ${schema} has version ${version}, of a newer Veneer, and this one knows versions up to ${MIGRATIONS.length}: start the newer one again`,
      );
    }
    for (const [at, step] of MIGRATIONS.entries()) {
      if (at < version) continue;
      await query(step(schema));
      await query(`INSERT INTO ${schema}.migrations VALUES ($1)`, [at + 1]);
    }
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {});
    throw error;
  }
}

/** Released ones are immutable: each migrates the schema numbered by its index to the next. */
const MIGRATIONS = [
  (schema: string) => `
    CREATE TABLE ${schema}.records (
      collection text COLLATE "C" NOT NULL,
      key text COLLATE "C" NOT NULL,
      value bytea NOT NULL,
      expires_at bigint,
      PRIMARY KEY (collection, key)
    );
    CREATE INDEX records_by_expiry ON ${schema}.records (expires_at) WHERE expires_at IS NOT NULL;
    CREATE TABLE ${schema}.holder (id text NOT NULL, number bigint NOT NULL);
    INSERT INTO ${schema}.holder VALUES (replace(gen_random_uuid()::text, '-', ''), 0);`,
  (schema: string) => createChangeIfExpected(schema),
];

/**
 * Changes records that are as expected. A function, as each of its statements sees what was committed before it: one statement alone would
 * compare with what there was before it waited for others. Who expects or changes the same records waits, in one order for all, by locks of
 * which there are 256, so that a large change does not fill the server's table of them. Gives null for a change that was made, an empty
 * text for one of a former holder, and otherwise the record that is not as expected.
 */
function createChangeIfExpected(schema: string): string {
  return `
    CREATE FUNCTION ${schema}.change_if_expected(
      holder_number bigint, channel text, announcement text, now_ms bigint,
      delete_collections text[], delete_keys text[],
      put_collections text[], put_keys text[], put_values bytea[], put_expiries bigint[], put_ttls bigint[],
      expected_collections text[], expected_keys text[], expected_values bytea[], is_volatile boolean
    ) RETURNS text LANGUAGE plpgsql AS $function$
    DECLARE
      bucket integer;
      conflict text;
      changed bigint;
    BEGIN
      PERFORM FROM ${schema}.holder WHERE number = holder_number FOR SHARE;
      IF NOT FOUND THEN RETURN ''; END IF;
      FOR bucket IN
        SELECT DISTINCT hashtext(id.collection || '/' || id.key) & 255 FROM (
          SELECT * FROM unnest(expected_collections, expected_keys) AS e (collection, key)
          UNION ALL SELECT * FROM unnest(delete_collections, delete_keys) AS d (collection, key)
          UNION ALL SELECT * FROM unnest(put_collections, put_keys) AS p (collection, key)
        ) AS id ORDER BY 1
      LOOP
        PERFORM pg_advisory_xact_lock(hashtext('veneer ${schema}'), bucket);
      END LOOP;
      now_ms := coalesce(now_ms, (extract(epoch FROM clock_timestamp()) * 1000)::bigint);
      PERFORM FROM ${schema}.records AS r
        JOIN unnest(expected_collections, expected_keys) AS e (collection, key) ON r.collection = e.collection AND r.key = e.key
        ORDER BY r.collection, r.key FOR UPDATE OF r;
      SELECT e.collection || '/' || e.key INTO conflict
        FROM unnest(expected_collections, expected_keys, expected_values) AS e (collection, key, value)
        LEFT JOIN ${schema}.records AS r
          ON r.collection = e.collection AND r.key = e.key AND (r.expires_at IS NULL OR r.expires_at > now_ms)
        WHERE r.value IS DISTINCT FROM e.value LIMIT 1;
      IF FOUND THEN RETURN conflict; END IF;
      DELETE FROM ${schema}.records AS old USING unnest(delete_collections, delete_keys) AS d (collection, key)
        WHERE old.collection = d.collection AND old.key = d.key;
      INSERT INTO ${schema}.records AS old (collection, key, value, expires_at)
        SELECT p.collection, p.key, p.value, coalesce(now_ms + p.ttl, p.expires_at)
        FROM unnest(put_collections, put_keys, put_values, put_expiries, put_ttls) AS p (collection, key, value, expires_at, ttl)
        ON CONFLICT (collection, key) DO UPDATE SET value = EXCLUDED.value, expires_at = EXCLUDED.expires_at
        WHERE old.expires_at <= now_ms OR NOT EXISTS (
          SELECT FROM unnest(expected_collections, expected_keys, expected_values) AS e (collection, key, value)
          WHERE e.value IS NULL AND e.collection = EXCLUDED.collection AND e.key = EXCLUDED.key
        );
      GET DIAGNOSTICS changed = ROW_COUNT;
      IF changed < cardinality(put_keys) THEN
        RAISE EXCEPTION 'a record was put that was expected to be absent' USING ERRCODE = '${UNEXPECTED}';
      END IF;
      IF is_volatile THEN PERFORM set_config('synchronous_commit', 'off', true); END IF;
      IF announcement IS NOT NULL THEN PERFORM pg_notify(channel, announcement); END IF;
      RETURN NULL;
    END
    $function$;`;
}

/** Another process changed the record between the comparison and the change. */
export const UNEXPECTED = 'VN001';

/** Changes take the number of the holder, the channel and the notification first, and return no row unless the caller is the holder. */
export function prepareStatements(schema: string) {
  const records = `${schema}.records`;
  const now = (parameter: string) =>
    `(SELECT coalesce(${parameter}::bigint, (extract(epoch FROM clock_timestamp()) * 1000)::bigint))`;
  const live = `(expires_at IS NULL OR expires_at > ${now('$1')})`;
  const range = `FROM ${records} WHERE collection = $2 AND key >= $3 AND ($4::text IS NULL OR key < $4) AND key > $5 AND ${live} ORDER BY key LIMIT $6`;
  // The holder is locked until the change is durable: the next one waits for it.
  const holder = `holder AS (SELECT FROM ${schema}.holder WHERE number = $1::bigint FOR SHARE)`;
  const held = 'EXISTS (SELECT FROM holder)';
  return {
    get: `SELECT value, expires_at - ${now('$1')} AS ttl FROM ${records} WHERE collection = $2 AND key = $3 AND ${live}`,
    // $5 is the key to start after: without one it is empty, and no key is.
    list: `SELECT key ${range}`,
    all: `SELECT collection, key, value, expires_at FROM ${records} WHERE (collection, key) > ($1, $2) ORDER BY collection, key LIMIT $3`,
    entries: `SELECT key, value ${range}`,
    write: `WITH ${holder},
      deleted AS (
        DELETE FROM ${records} AS old USING unnest($4::text[], $5::text[]) AS d (collection, key)
        WHERE old.collection = d.collection AND old.key = d.key AND ${held}
      ),
      written AS (
        INSERT INTO ${records} (collection, key, value, expires_at)
        SELECT * FROM unnest($6::text[], $7::text[], $8::bytea[], $9::bigint[]) AS p WHERE ${held}
        ON CONFLICT (collection, key) DO UPDATE SET value = EXCLUDED.value, expires_at = EXCLUDED.expires_at
      )
      SELECT pg_notify($2, $3) FROM holder`,
    change: `SELECT ${schema}.change_if_expected($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) AS conflict`,
    delete: `WITH ${holder},
      deleted AS (
        DELETE FROM ${records} WHERE collection = $5 AND key = $6 AND ${held}
        RETURNING expires_at IS NULL OR expires_at > ${now('$4')} AS was_live
      )
      SELECT pg_notify($2, $3), coalesce((SELECT was_live FROM deleted), false) AS was_live FROM holder`,
    sweep: `WITH swept AS (
        DELETE FROM ${records} WHERE ctid = ANY(ARRAY(
          SELECT ctid FROM ${records} WHERE expires_at <= ${now('$1')} ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
        )) RETURNING 1
      )
      SELECT count(*) FROM swept`,
  };
}
