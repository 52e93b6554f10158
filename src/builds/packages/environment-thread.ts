// The thread that parses foreign YAML environments: its cost is confined to it.
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { parseDocument, stringify } from 'yaml';
import { z } from 'zod';

const questionSchema = z.object({ text: z.string(), channels: z.array(z.string()) });
/** An environment, and channels to add to its own. */
export type EnvironmentQuestion = z.infer<typeof questionSchema>;

export const answerSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('yaml'),
    /** With all channels; unchanged where it has them. */
    text: z.string(),
    name: z.string().optional(),
    /** Those of its dependencies that are used for the name. */
    specs: z.array(z.string()),
  }),
  /** The format of conda-lock. */
  z.object({ kind: z.literal('lock') }),
  /** The format of pixi.lock. */
  z.object({ kind: z.literal('pixi-lock') }),
  z.object({ kind: z.literal('fault'), message: z.string() }),
]);
export type EnvironmentAnswer = z.infer<typeof answerSchema>;

/** The maximum number used for a name. */
const MAX_SPECS = 100;
const MAX_SPEC = 256;
const MAX_ALIASES = 100;

const environmentSchema = z.looseObject({
  name: z.string().nullish(),
  channels: z.array(z.string()).nullish(),
  dependencies: z.array(z.unknown()).min(1),
});
const pipSchema = z.looseObject({ pip: z.array(z.unknown()) });

function readEnvironment({ text, channels }: EnvironmentQuestion): EnvironmentAnswer {
  // Comparing each key with all before it, and locating each error, both take quadratic time.
  const document = parseDocument(text, { uniqueKeys: false, prettyErrors: false });
  const [fault] = document.errors;
  if (fault) return { kind: 'fault', message: `not YAML: ${fault.code.toLowerCase()}` };
  if (document.has('package') && document.has('metadata')) return { kind: 'lock' };
  if (document.has('environments') && document.has('packages')) return { kind: 'pixi-lock' };
  const value = toValue(() => document.toJS({ maxAliasCount: MAX_ALIASES }));
  if (value === TOO_MANY) return { kind: 'fault', message: 'YAML with too many aliases' };
  const { data } = environmentSchema.safeParse(value);
  if (!data) return { kind: 'fault', message: 'expected YAML with a list of dependencies, a lock file or a URL' };
  const missing = channels.filter(channel => !data.channels?.includes(channel));
  const all = { ...data, channels: [...(data.channels ?? []), ...missing] };
  const whole = missing.length === 0 ? `${text}\n` : stringify(all);
  return { kind: 'yaml', text: whole, ...(data.name && { name: data.name }), specs: specsOf(data.dependencies) };
}

const TOO_MANY = Symbol('too many aliases');

function toValue(read: () => unknown): unknown {
  try {
    return read();
  } catch (error) {
    if (error instanceof ReferenceError) return TOO_MANY;
    throw error;
  }
}

function specsOf(dependencies: readonly unknown[]): string[] {
  return dependencies
    .slice(0, MAX_SPECS)
    .flatMap(dependency =>
      typeof dependency === 'string' ? [dependency] : (pipSchema.safeParse(dependency).data?.pip ?? []),
    )
    .flatMap(spec => (typeof spec === 'string' ? [spec.slice(0, MAX_SPEC)] : []))
    .slice(0, MAX_SPECS);
}

if (!isMainThread && questionSchema.safeParse(workerData).success) {
  parentPort?.postMessage(readEnvironment(questionSchema.parse(workerData)));
}
