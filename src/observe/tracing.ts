// OpenTelemetry traces, configured by its standard environment variables. Its packages are only loaded if these enable it.
import type { Attributes, Context, Span } from '@opentelemetry/api';
import type { Sampler, SpanExporter } from '@opentelemetry/sdk-trace';

type Environment = Readonly<Record<string, string | undefined>>;

/** A started span. It is only exported once `end` was called. */
export interface TraceSpan {
  readonly traceId: string;
  /** The header of W3C Trace Context for requests sent on its behalf. */
  readonly traceparent: string;
  /** `describe` is only called if the span is sampled. */
  end(describe?: () => Outcome): void;
}

interface Outcome {
  /** Undefined ones are omitted. */
  readonly attributes?: Readonly<Record<string, string | number | boolean | undefined>>;
  /** The error code or type; absent on success. */
  readonly error?: string | undefined;
}

interface NewSpan {
  readonly name: string;
  /** Only called if the span is sampled. */
  readonly describe: () => NonNullable<Outcome['attributes']>;
  /** `server`: a request to us; `client`: a request that we send. */
  readonly kind: 'server' | 'client' | 'internal';
  /** The traceparent of the parent span; absent or invalid: it starts a new trace. */
  readonly parent?: string | undefined;
}

export interface Tracing {
  start(span: NewSpan): TraceSpan;
  /** Exports the remaining spans, for a few seconds at most. */
  close(): Promise<void>;
}

/** Whether traces are enabled: by an endpoint for them, or by the name of the exporter. */
export function wantsTraces(env: Environment): boolean {
  const { OTEL_TRACES_EXPORTER: exporter } = env;
  if (env.OTEL_SDK_DISABLED?.toLowerCase() === 'true' || exporter === 'none') return false;
  return Boolean(exporter ?? env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? env.OTEL_EXPORTER_OTLP_ENDPOINT);
}

const CLOSE_MS = 5000;

/** `env` is that of the process, from which the exporter reads its variables. `warn` reports invalid variables and lost spans. */
export async function createTracing({
  env,
  version,
  warn,
}: {
  readonly env: Environment;
  readonly version: string;
  readonly warn: (fault: string) => void;
}): Promise<Tracing> {
  const [api, { parseTraceParent }, { OTLPTraceExporter }, resources, sdk] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/core'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
    import('@opentelemetry/sdk-trace'),
  ]);
  for (const fault of findFaults(env)) warn(fault);
  const detected = resources.detectResources({ detectors: [resources.envDetector] });
  const own = resources.resourceFromAttributes({ 'service.name': 'veneer', 'service.version': version });
  const processor = new sdk.BatchSpanProcessor({
    exporter: warnOfLosses(new OTLPTraceExporter(), warn),
    ...batchOptions(env),
  });
  const provider = new sdk.TracerProvider({
    resource: resources.defaultResource().merge(own).merge(detected),
    sampler: createSampler(env, sdk),
    spanProcessors: [processor],
  });
  const tracer = provider.getTracer('veneer', version);
  const kinds = { server: api.SpanKind.SERVER, client: api.SpanKind.CLIENT, internal: api.SpanKind.INTERNAL };

  function contextOf(parent: string | undefined): Context {
    const remote = parent === undefined ? null : parseTraceParent(parent);
    return remote ? api.trace.setSpanContext(api.ROOT_CONTEXT, { ...remote, isRemote: true }) : api.ROOT_CONTEXT;
  }

  return {
    start({ name, kind, describe, parent }) {
      const span = tracer.startSpan(name, { kind: kinds[kind] }, contextOf(parent));
      if (span.isRecording()) span.setAttributes(defined(describe()));
      return toSpan(span, api.SpanStatusCode.ERROR);
    },
    async close() {
      const ended = new Promise<void>(resolve => setTimeout(resolve, CLOSE_MS).unref());
      await Promise.race([provider.shutdown().catch(() => {}), ended]);
    },
  };
}

function toSpan(span: Span, failed: number): TraceSpan {
  const { traceId, spanId, traceFlags } = span.spanContext();
  return {
    traceId,
    traceparent: `00-${traceId}-${spanId}-0${traceFlags & 1}`,
    end(describe) {
      if (!span.isRecording()) return;
      const { attributes = {}, error } = describe?.() ?? {};
      span.setAttributes(defined(attributes));
      if (error !== undefined) span.setStatus({ code: failed }).setAttribute('error.type', error);
      span.end();
    },
  };
}

function defined(attributes: NonNullable<Outcome['attributes']>): Attributes {
  return Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined));
}

const SAMPLERS = ['always_on', 'always_off', 'traceidratio'].flatMap(name => [name, `parentbased_${name}`]);

/** Invalid values are reported, and the defaults used instead, as the specification of OpenTelemetry says. */
function findFaults(env: Environment): readonly string[] {
  const exporter = env.OTEL_TRACES_EXPORTER ?? 'otlp';
  const protocol = env.OTEL_EXPORTER_OTLP_TRACES_PROTOCOL ?? env.OTEL_EXPORTER_OTLP_PROTOCOL ?? 'http/json';
  const endpoint = env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? env.OTEL_EXPORTER_OTLP_ENDPOINT;
  const sampler = env.OTEL_TRACES_SAMPLER ?? 'always_on';
  return [
    ...(exporter === 'otlp' ? [] : [`OTEL_TRACES_EXPORTER is ${exporter}: traces are sent by otlp, or not (none)`]),
    ...(protocol.startsWith('http/') ? [] : [`the protocol of OTLP is ${protocol}: traces are sent as http/json`]),
    ...(endpoint === undefined || URL.canParse(endpoint)
      ? []
      : ['the endpoint of OTLP is no URL: its default is used']),
    ...(SAMPLERS.includes(sampler) ? [] : [`OTEL_TRACES_SAMPLER is ${sampler}: all is sampled`]),
  ];
}

type Sdk = typeof import('@opentelemetry/sdk-trace');

function createSampler(
  { OTEL_TRACES_SAMPLER: name = '', OTEL_TRACES_SAMPLER_ARG: ratio }: Environment,
  sdk: Sdk,
): Sampler {
  const root = createRootSampler(name.replace('parentbased_', ''), ratio, sdk);
  return SAMPLERS.includes(name) && !name.startsWith('parentbased_') ? root : new sdk.ParentBasedSampler({ root });
}

function createRootSampler(name: string, ratio: string | undefined, sdk: Sdk): Sampler {
  if (name === 'always_off') return new sdk.AlwaysOffSampler();
  const wanted = Number(ratio ?? 1);
  return name === 'traceidratio' && wanted >= 0 && wanted <= 1
    ? new sdk.TraceIdRatioBasedSampler(wanted)
    : new sdk.AlwaysOnSampler();
}

function batchOptions(env: Environment) {
  const options = {
    scheduledDelayMillis: Number(env.OTEL_BSP_SCHEDULE_DELAY),
    exportTimeoutMillis: Number(env.OTEL_BSP_EXPORT_TIMEOUT),
    maxQueueSize: Number(env.OTEL_BSP_MAX_QUEUE_SIZE),
    maxExportBatchSize: Number(env.OTEL_BSP_MAX_EXPORT_BATCH_SIZE),
  };
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value > 0));
}

const WARN_EVERY_MS = 60_000;

/** Warns of an unreachable collector once a minute, instead of once per batch. */
function warnOfLosses(exporter: SpanExporter, warn: (fault: string) => void): SpanExporter {
  let warnedAt = Number.NEGATIVE_INFINITY;
  let lost = 0;
  return {
    export(spans, onResult) {
      exporter.export(spans, result => {
        if (result.error) {
          lost += spans.length;
          const now = performance.now();
          if (now - warnedAt > WARN_EVERY_MS) {
            warn(`${lost} spans could not be sent: ${result.error.message}`);
            warnedAt = now;
            lost = 0;
          }
        }
        onResult(result);
      });
    },
    forceFlush: async () => exporter.forceFlush?.(),
    shutdown: () => exporter.shutdown(),
  };
}
