// `veneer status`: what a running service says of itself, in a few lines: what is slow, failing, limited or full.
import { Command } from 'commander';
import { z } from 'zod';
import { formatSize } from '../oci/wording.ts';
import { type Finding, fault, formatFinding, note } from './doctor/findings.ts';
import { explain, formatColumns, plainText, print } from './output.ts';
import type { Build, BuildsClient } from './service/builds.ts';
import { parseJson, refusalOf, type Service, ServiceRefused, sendRequest } from './service/service.ts';
import { addServerOption, callService, type ServiceCommandDeps } from './service-command.ts';

/** Something does not work as it should. */
const EXIT_FAULTS = 2;

export function createStatusCommand(deps: ServiceCommandDeps): Command {
  const command = new Command('status')
    .description('shows how a running service is: what is slow, failing, limited or full')
    .option('--json', 'prints all of it as JSON');
  return addServerOption(command).action(async ({ json }: { readonly json?: boolean }, self: Command) =>
    callService(self, deps, async ({ service, builds }) => {
      const status = await findStatus(service, builds);
      const { findings } = status;
      if (json) print(self, JSON.stringify(status, undefined, 2));
      else for (const line of formatStatus(status)) print(self, plainText(line));
      const faults = findings.filter(({ level }) => level === 'fault').length;
      if (faults > 0) self.error(`${faults} ${faults === 1 ? 'fault' : 'faults'}`, { exitCode: EXIT_FAULTS });
      explain(self, 'no faults');
    }),
  );
}

interface Status {
  readonly service: {
    readonly url: string;
    readonly version: string;
    readonly status: string;
    readonly since?: string | undefined;
  };
  readonly upstreams: readonly UpstreamStatus[];
  readonly cache?:
    | { readonly bytes: number; readonly limitBytes: number | undefined; readonly items: number }
    | undefined;
  readonly builds: { readonly running: number; readonly queued: number; readonly failed: readonly FailedBuild[] };
  readonly findings: readonly Finding[];
}

interface UpstreamStatus {
  readonly name: string;
  readonly requests: number;
  /** Without an answer, or with a status of 500 or more. */
  readonly failed: number;
  /** With 429. */
  readonly limited: number;
  /** Nine of ten answers begin within it; undefined where there were none. */
  readonly p90Seconds: number | undefined;
  readonly isBroken: boolean;
  readonly limitRemaining: number | undefined;
}

interface FailedBuild {
  readonly id: string;
  readonly reason: string;
}

async function findStatus(service: Service, builds: BuildsClient): Promise<Status> {
  const [info, ready, metrics, failed] = await Promise.all([
    readInfo(service),
    readReady(service),
    readMetrics(service),
    listFailed(builds),
  ]);
  const { samples, fault: unreadable } = metrics;
  const upstreams = findUpstreams(samples);
  const findings = [
    ...ready.findings,
    ...(unreadable ? [unreadable] : []),
    ...info.findings,
    ...upstreams.flatMap(checkUpstream),
    ...checkCounts(samples),
    ...failed.map(({ id, reason }) => note('build', `${id} failed: ${reason}`, `veneer builds log ${id}`)),
  ];
  const startedAt = readValue(samples, 'process_start_time_seconds');
  return {
    service: {
      url: service.url.origin,
      ...{ version: info.version, status: ready.status },
      since: startedAt === undefined ? undefined : new Date(startedAt * 1000).toISOString(),
    },
    upstreams,
    cache: findCache(samples),
    builds: {
      running: readValue(samples, 'veneer_builds_in_progress', { state: 'running' }) ?? 0,
      queued: readValue(samples, 'veneer_builds_in_progress', { state: 'queued' }) ?? 0,
      failed,
    },
    findings,
  };
}

const infoSchema = z.object({
  serviceInfo: z.object({
    veneerVersion: z.string(),
    builders: z.array(z.object({ name: z.string(), isAvailable: z.boolean() })).default([]),
  }),
});

async function readInfo(service: Service) {
  const response = await sendRequest(service, '/service-info');
  const { data } = infoSchema.safeParse(parseJson(await response.text()));
  if (!data) throw new ServiceRefused(`${service.url.host} is not a Veneer service of this version`);
  const { veneerVersion: version, builders } = data.serviceInfo;
  const findings = builders
    .filter(({ isAvailable }) => !isAvailable)
    .map(({ name }) =>
      fault(`builder ${name}`, 'it does not answer: builds for its platforms wait or fail', 'veneer doctor says why'),
    );
  return { version, findings };
}

const readySchema = z.object({
  status: z.string(),
  parts: z.array(z.object({ part: z.string(), status: z.string(), reason: z.string() })).default([]),
  notes: z.array(z.string()).default([]),
});

async function readReady(service: Service) {
  const response = await sendRequest(service, '/health/ready');
  const { data } = readySchema.safeParse(parseJson(await response.text()));
  if (!data) throw await refusalOf(response);
  const findings = [
    ...data.parts
      // Builders say so themselves.
      .filter(({ part }) => !part.startsWith('builder '))
      .map(({ part, status, reason }) =>
        fault(part, `${status}: ${reason}`, 'see the log of the service, and veneer doctor'),
      ),
    ...data.notes.map(each => note('service', each)),
  ];
  return { status: data.status, findings };
}

/** The last ones that failed. */
async function listFailed(builds: BuildsClient): Promise<readonly FailedBuild[]> {
  const found: readonly Build[] = await builds.list({ limit: MAX_FAILED, status: 'failed', after: undefined });
  return found.map(({ buildId, reason = 'no reason given' }) => ({
    id: buildId,
    reason: reason.split('\n', 1)[0] ?? '',
  }));
}

const MAX_FAILED = 3;

interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const METRICS_REMEDY = 'set VENEER_TOKEN to a token made with --admin';

async function readMetrics(
  service: Service,
): Promise<{ readonly samples: readonly Sample[]; readonly fault?: Finding }> {
  const response = await sendRequest(service, '/metrics');
  const text = await response.text();
  if (response.ok) return { samples: parseMetrics(text) };
  const isOff = response.status === 404;
  const message = isOff
    ? 'metrics are off: upstreams, cache and builds are not shown'
    : 'metrics are for administrators: upstreams, cache and builds are not shown';
  return { samples: [], fault: note('metrics', message, isOff ? 'set metrics.enabled to true' : METRICS_REMEDY) };
}

function parseMetrics(text: string): readonly Sample[] {
  return [...text.matchAll(/^(\w+)(?:\{(.*)\})? (\S+)$/gm)].map(([, name = '', labels = '', value]) => ({
    name,
    labels: Object.fromEntries(
      [...labels.matchAll(/(?:^|,)(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key = '', each = '']) => [key, each]),
    ),
    value: Number(value),
  }));
}

function select(
  samples: readonly Sample[],
  name: string,
  labels: Readonly<Record<string, string>> = {},
): readonly Sample[] {
  const wanted = Object.entries(labels);
  return samples.filter(sample => sample.name === name && wanted.every(([key, value]) => sample.labels[key] === value));
}

function sum(samples: readonly Sample[]): number {
  return samples.reduce((total, { value }) => total + value, 0);
}

function readValue(
  samples: readonly Sample[],
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  return select(samples, name, labels)[0]?.value;
}

/** The upper bound of the bucket that it is in; undefined without an observation. */
function quantile(buckets: readonly Sample[], part: number): number | undefined {
  const sorted = buckets
    .map(({ labels, value }) => ({ bound: labels.le === '+Inf' ? Number.POSITIVE_INFINITY : Number(labels.le), value }))
    .toSorted((a, b) => a.bound - b.bound);
  const count = sorted.at(-1)?.value ?? 0;
  return count === 0 ? undefined : sorted.find(({ value }) => value >= count * part)?.bound;
}

function findUpstreams(samples: readonly Sample[]): readonly UpstreamStatus[] {
  const names = new Set(
    samples.flatMap(({ name, labels }) => (name.startsWith('veneer_upstream_') ? [labels.upstream ?? ''] : [])),
  );
  return [...names].sort().map(upstream => {
    const requests = select(samples, 'veneer_upstream_requests_total', { upstream });
    return {
      name: upstream,
      requests: sum(requests),
      failed: sum(requests.filter(({ labels }) => labels.status === 'none' || /^5/.test(labels.status ?? ''))),
      limited: sum(requests.filter(({ labels }) => labels.status === '429')),
      p90Seconds: quantile(select(samples, 'veneer_upstream_request_duration_seconds_bucket', { upstream }), 0.9),
      isBroken: readValue(samples, 'veneer_upstream_breaker_open', { upstream }) === 1,
      limitRemaining: readValue(samples, 'veneer_upstream_rate_limit_remaining', { upstream }),
    };
  });
}

const SLOW_SECONDS = 5;
const MAX_FAILED_SHARE = 0.1;
const FEW_LEFT = 10;

function checkUpstream({
  name,
  requests,
  failed,
  limited,
  p90Seconds,
  isBroken,
  limitRemaining,
}: UpstreamStatus): readonly Finding[] {
  const about = `upstream ${name}`;
  const isFailing = failed > requests * MAX_FAILED_SHARE;
  return [
    ...(isBroken
      ? [fault(about, 'failing: it is not asked for a while, and what is cached is served', 'veneer doctor says why')]
      : []),
    ...(isFailing && !isBroken
      ? [fault(about, `failing: ${failed} of ${requests} requests since the start`, 'veneer doctor says why')]
      : []),
    ...(limited > 0
      ? [note(about, `limited: it refused ${limited} requests with 429`, 'give it credentials with a higher limit')]
      : []),
    ...(limitRemaining !== undefined && limitRemaining < FEW_LEFT
      ? [
          fault(
            about,
            `limited: ${limitRemaining} requests are left of its rate limit`,
            'give it credentials with a higher limit, or wait',
          ),
        ]
      : []),
    ...(p90Seconds !== undefined && p90Seconds > SLOW_SECONDS
      ? [
          note(
            about,
            `slow: a tenth of its answers takes more than ${SLOW_SECONDS} s`,
            'see its state, and the network in between',
          ),
        ]
      : []),
  ];
}

const SLOW_LOOP_SECONDS = 0.5;

function checkCounts(samples: readonly Sample[]): readonly Finding[] {
  const damaged = sum(select(samples, 'veneer_content_damaged_total', { restored: 'false' }));
  const backlog = sum(select(samples, 'veneer_webhook_backlog_events'));
  const dropped = sum(select(samples, 'veneer_webhook_dropped_events_total'));
  const full = sum(select(samples, 'veneer_cache_evicted_total', { reason: 'full disk' }));
  const loop = quantile(select(samples, 'veneer_event_loop_delay_seconds_bucket'), 0.999);
  return [
    ...(full > 0
      ? [fault('disk', `full: ${full} cached items had to go for want of space`, 'lower cache.maxSize, or free space')]
      : []),
    ...(damaged > 0
      ? [
          fault(
            'content',
            `failing: the disk has damaged ${damaged} items`,
            'check the disk, and run veneer cache verify',
          ),
        ]
      : []),
    ...(dropped > 0
      ? [fault('webhooks', `failing: ${dropped} events were dropped`, 'see the log of the service for their endpoint')]
      : []),
    ...(backlog > 0 ? [note('webhooks', `${backlog} events wait for their endpoints`)] : []),
    ...(loop !== undefined && loop > SLOW_LOOP_SECONDS
      ? [
          note(
            'service',
            `slow: some turns of its event loop took more than ${SLOW_LOOP_SECONDS} s`,
            'give it more of a processor',
          ),
        ]
      : []),
  ];
}

function findCache(samples: readonly Sample[]): Status['cache'] {
  const bytes = readValue(samples, 'veneer_cache_size_bytes');
  if (bytes === undefined) return undefined;
  return {
    bytes,
    limitBytes: readValue(samples, 'veneer_cache_limit_bytes'),
    items: readValue(samples, 'veneer_cache_items') ?? 0,
  };
}

function formatStatus({ service, upstreams, cache, builds, findings }: Status): readonly string[] {
  const { url, version, status, since } = service;
  const limit = cache?.limitBytes === undefined ? '' : ` of ${formatSize(cache.limitBytes)}`;
  return [
    `service  ${status}, Veneer ${version} at ${url}${since === undefined ? '' : `, since ${since}`}`,
    ...(cache ? [`cache    ${formatSize(cache.bytes)}${limit}, ${cache.items} items`] : []),
    `builds   ${builds.running} running, ${builds.queued} queued`,
    ...(upstreams.length > 0 ? ['', ...formatUpstreams(upstreams)] : []),
    ...(findings.length > 0 ? ['', ...findings.flatMap(formatFinding)] : []),
  ];
}

function formatUpstreams(upstreams: readonly UpstreamStatus[]): readonly string[] {
  const rows = upstreams.map(({ name, requests, failed, limited, p90Seconds, limitRemaining }) => [
    ...[name, `${requests}`, `${failed}`, `${limited}`],
    p90Seconds === undefined
      ? '-'
      : Number.isFinite(p90Seconds)
        ? `${Number((p90Seconds * 1000).toFixed(1))} ms`
        : 'more',
    limitRemaining === undefined ? '-' : `${limitRemaining}`,
  ]);
  return formatColumns(['UPSTREAM', 'REQUESTS', 'FAILED', 'LIMITED', '90 % WITHIN', 'LIMIT LEFT'], rows);
}
