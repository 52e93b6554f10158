// Prometheus, as operators run it, reads the metrics, and the alerts and the dashboard of deploy/ are of its language.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { createAccessTokens } from '../../src/access/access-token.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import { listQueries } from '../support/dashboard.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { findMissingTools } from './support/clients.ts';
import { checkUrl, findFreePort, run, startProcess, waitUntil } from './support/process.ts';

const missing = findMissingTools(['promtool', 'prometheus']);
const ALERTS = resolve('deploy/prometheus-alerts.yaml');

const answerSchema = z.object({
  data: z.object({ result: z.array(z.object({ metric: z.record(z.string(), z.string()) })) }),
});

describe.skipIf(missing)(`prometheus${missing ? ` (${missing})` : ''}`, () => {
  let folder: string;
  let server: TestServer;
  let secret: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'veneer-prometheus-'));
    server = await startServer({ access: { grants: [{ anyone: true, repositories: ['local/**'], allow: ['pull'] }] } });
    secret = await issueToken(server);
    for (const path of ['/health/live', '/v2/local/app/manifests/1', '/nothing/here']) await server.send('GET', path);
  });

  afterAll(async () => {
    await server.close();
    await rm(folder, { recursive: true });
  });

  test('promtool finds no fault in the metrics', async () => {
    const { status, body } = await server.send('GET', '/metrics', { headers: authorization(secret) });
    expect(status).toBe(200);
    await expect(run('promtool', ['check', 'metrics'], { input: body.toString() })).resolves.toBe('');
  });

  test('promtool takes the alerts, and all queries of the dashboard', async () => {
    await expect(run('promtool', ['check', 'rules', ALERTS])).resolves.toMatch(/SUCCESS: 13 rules found/);
    const rules = (await listQueries()).map((expr, at) => ({ record: `query_${at}`, expr }));
    const file = join(folder, 'dashboard.yaml');
    await writeFile(file, stringify({ groups: [{ name: 'dashboard', rules }] }));
    expect(rules.length).toBeGreaterThan(30);
    await expect(run('promtool', ['check', 'rules', file])).resolves.toContain(`SUCCESS: ${rules.length} rules found`);
  });

  test('each alert fires for what it is about, and none for a service that is well', async () => {
    const file = join(folder, 'cases.yaml');
    await writeFile(file, stringify({ rule_files: [ALERTS], evaluation_interval: '1m', tests: await listCases() }));
    await expect(run('promtool', ['test', 'rules', file])).resolves.toContain('SUCCESS');
  });

  test('Prometheus scrapes with an access token that may administer, and has what runs', async () => {
    const port = await findFreePort();
    const config = join(folder, 'prometheus.yaml');
    const basic_auth = { username: 'prometheus', password: secret };
    const static_configs = [{ targets: [`127.0.0.1:${server.port}`] }];
    const scrape_configs = [{ job_name: 'veneer', scrape_interval: '1s', basic_auth, static_configs }];
    await writeFile(config, stringify({ rule_files: [ALERTS], scrape_configs }));
    const address = `http://127.0.0.1:${port}`;
    const prometheus = await startProcess(
      'prometheus',
      [
        ...[`--config.file=${config}`, `--storage.tsdb.path=${join(folder, 'data')}`],
        `--web.listen-address=127.0.0.1:${port}`,
      ],
      { checkReady: () => checkUrl(`${address}/-/ready`) },
    );
    try {
      await waitUntil(async () => {
        const found = await fetch(`${address}/api/v1/query?query=veneer_build_info`);
        const { result } = answerSchema.parse(await found.json()).data;
        expect(result[0]?.metric).toMatchObject({ job: 'veneer', version: '0.0.0' });
      });
    } finally {
      await prometheus.stop();
    }
  });
});

function authorization(password: string): Record<string, string> {
  return { Authorization: `Basic ${Buffer.from(`prometheus:${password}`).toString('base64')}` };
}

/** Beside the running service, as `veneer token create --admin` does. */
async function issueToken({ directory }: TestServer): Promise<string> {
  const now = () => new Date();
  const records = createSqliteStore({ path: join(directory, 'data', 'records.db'), now });
  try {
    const permissions = [{ repositories: [], allow: ['admin' as const] }];
    return (await createAccessTokens({ records, now }).issue({ name: 'prometheus', permissions, ttlMs: 3_600_000 }))
      .secret;
  } finally {
    await records.close();
  }
}

interface Case {
  /** Series and their values, of one a minute. */
  readonly input: Readonly<Record<string, string>>;
  /** The labels that the alert has beside its severity. */
  readonly labels?: Readonly<Record<string, string>>;
}

const ROUTE = 'method="GET", route="/v2/{name}/manifests/{reference}"';
const HOUR = 60;
/** A counter that goes up by so much a minute, and a gauge that stays. */
const rising = (by: number) => `0+${by}x${2 * HOUR}`;
const steady = (value: number) => `${value}x${2 * HOUR}`;
/** Once, in the middle of the last minutes. */
const once = `0x${2 * HOUR - 8} 1x8`;

/** What each alert is about, of one instance. */
const ALARMING: Readonly<Record<string, Case>> = {
  VeneerDown: { input: { 'up{job="veneer"}': steady(0) }, labels: { job: 'veneer' } },
  VeneerRequestsFail: {
    input: {
      'veneer_http_requests_total{status="200"}': rising(90),
      'veneer_http_requests_total{status="502"}': rising(10),
    },
  },
  VeneerManifestsSlow: {
    input: {
      [`veneer_http_request_duration_seconds_bucket{${ROUTE}, le="10"}`]: rising(50),
      [`veneer_http_request_duration_seconds_bucket{${ROUTE}, le="30"}`]: rising(100),
      [`veneer_http_request_duration_seconds_bucket{${ROUTE}, le="+Inf"}`]: rising(100),
    },
  },
  VeneerUpstreamFails: {
    input: { 'veneer_upstream_breaker_open{upstream="quay.io"}': steady(1) },
    labels: { upstream: 'quay.io' },
  },
  VeneerUpstreamRateLow: {
    input: {
      'veneer_upstream_rate_limit_remaining{upstream="docker.io"}': steady(3),
      'veneer_upstream_requests_total{upstream="docker.io", status="200"}': rising(5),
    },
    labels: { upstream: 'docker.io' },
  },
  VeneerUpstreamLimits: {
    input: { 'veneer_upstream_requests_total{upstream="docker.io", status="429"}': rising(1) },
    labels: { upstream: 'docker.io' },
  },
  VeneerContentDamaged: {
    input: { 'veneer_content_damaged_total{of="hosted", restored="false"}': once },
    labels: { of: 'hosted' },
  },
  VeneerCacheThrashes: {
    input: {
      'veneer_cache_evicted_bytes_total{reason="budget"}': rising(1000),
      veneer_cache_limit_bytes: steady(1000),
    },
  },
  VeneerBuildsWait: { input: { 'veneer_builds_in_progress{state="queued"}': steady(2) } },
  VeneerBuildersFail: { input: { 'veneer_builds_total{kind="containerfile", result="infrastructure"}': rising(1) } },
  VeneerWebhookBacklog: {
    input: { 'veneer_webhook_backlog_events{endpoint="audit"}': steady(2000) },
    labels: { endpoint: 'audit' },
  },
  VeneerEventsDropped: {
    input: { 'veneer_webhook_dropped_events_total{endpoint="audit"}': rising(1) },
    labels: { endpoint: 'audit' },
  },
  VeneerEventLoopBlocked: {
    input: {
      'veneer_event_loop_delay_seconds_bucket{le="0.25"}': rising(50),
      'veneer_event_loop_delay_seconds_bucket{le="0.5"}': rising(100),
      'veneer_event_loop_delay_seconds_bucket{le="+Inf"}': rising(100),
    },
  },
};

const HEALTHY: Readonly<Record<string, string>> = {
  'up{job="veneer"}': steady(1),
  'veneer_http_requests_total{status="200"}': rising(100),
  'veneer_http_requests_total{status="404"}': rising(20),
  [`veneer_http_request_duration_seconds_bucket{${ROUTE}, le="10"}`]: rising(100),
  [`veneer_http_request_duration_seconds_bucket{${ROUTE}, le="+Inf"}`]: rising(100),
  'veneer_upstream_breaker_open{upstream="quay.io"}': steady(0),
  'veneer_upstream_rate_limit_remaining{upstream="docker.io"}': steady(90),
  'veneer_upstream_requests_total{upstream="docker.io", status="200"}': rising(5),
  'veneer_content_damaged_total{of="hosted", restored="false"}': steady(1),
  'veneer_cache_evicted_bytes_total{reason="budget"}': rising(1),
  veneer_cache_limit_bytes: steady(1000),
  'veneer_builds_in_progress{state="queued"}': `1x10 0x${2 * HOUR - 10}`,
  'veneer_builds_in_progress{state="running"}': steady(4),
  'veneer_builds_total{kind="containerfile", result="build"}': rising(3),
  'veneer_webhook_backlog_events{endpoint="audit"}': steady(50),
  'veneer_webhook_dropped_events_total{endpoint="audit"}': steady(7),
  'veneer_event_loop_delay_seconds_bucket{le="0.25"}': rising(100),
  'veneer_event_loop_delay_seconds_bucket{le="+Inf"}': rising(100),
};

const INSTANCE = 'veneer:8080';

/** For `promtool test rules`: which alerts fire at the end of two hours. */
async function listCases() {
  const { groups } = rulesSchema.parse(parse(await readFile(ALERTS, 'utf8')));
  const severities = new Map(groups.flatMap(({ rules }) => rules.map(({ alert, labels }) => [alert, labels.severity])));
  expect([...severities.keys()].sort()).toEqual(Object.keys(ALARMING).sort());
  const fire = (alertname: string, labels: Case['labels'] = {}) => {
    const all = { alertname, alertstate: 'firing', instance: INSTANCE, severity: severities.get(alertname), ...labels };
    const written = Object.entries(all).map(([label, value]) => `${label}="${value}"`);
    return { labels: `ALERTS{${written.join(', ')}}`, value: 1 };
  };
  const toCase = (name: string, input: Case['input'], expected: readonly object[]) => ({
    ...{ name, interval: '1m' },
    input_series: Object.entries(input).map(([series, values]) => ({ series: withInstance(series), values })),
    promql_expr_test: [{ expr: 'ALERTS{alertstate="firing"}', eval_time: '2h', exp_samples: expected }],
  });
  return [
    toCase('healthy', HEALTHY, []),
    ...Object.entries(ALARMING).map(([name, { input, labels }]) => toCase(name, input, [fire(name, labels)])),
  ];
}

const rulesSchema = z.object({
  groups: z.array(
    z.object({ rules: z.array(z.object({ alert: z.string(), labels: z.object({ severity: z.string() }) })) }),
  ),
});

function withInstance(series: string): string {
  const instance = `instance="${INSTANCE}"`;
  return series.includes('{') ? series.replace('{', `{${instance}, `) : `${series}{${instance}}`;
}
