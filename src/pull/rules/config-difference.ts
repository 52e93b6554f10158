// What is different between two images, as far as those who run them notice: the configs, and the annotations of the manifests. Pure.
import type { ImageConfig } from '../../oci/image-config.ts';
import type { Difference } from '../../rules/explanation.ts';

/** What an image says of itself. */
export interface ImageWords {
  readonly config: ImageConfig;
  /** Of its manifest. */
  readonly annotations: ReadonlyMap<string, string>;
}

type Run = NonNullable<ImageConfig['config']>;
type Value = Difference['after'];

/** In the order of docker's documentation, and within a field in the order of the target; what is gone comes last. */
export function compareImages(source: ImageWords, target: ImageWords): readonly Difference[] {
  const [before, after] = [source.config.config ?? {}, target.config.config ?? {}];
  return [
    ...compareMaps('env', envOf(before), envOf(after)),
    ...compareValues('entrypoint', before.Entrypoint, after.Entrypoint),
    ...compareValues('cmd', before.Cmd, after.Cmd),
    ...compareValues('workingDir', before.WorkingDir, after.WorkingDir),
    ...compareValues('user', before.User, after.User),
    ...compareMaps('labels', mapOf(before.Labels), mapOf(after.Labels)),
    ...compareMaps('exposedPorts', portsOf(before), portsOf(after)),
    ...compareMaps('annotations', source.annotations, target.annotations),
  ];
}

/** Of a variable that is there twice the last counts, as for a shell. */
function envOf({ Env }: Run): ReadonlyMap<string, string> {
  return new Map(
    (Env ?? []).map(entry => {
      const [name = ''] = entry.split('=', 1);
      return [name, entry.slice(name.length + 1)];
    }),
  );
}

function mapOf(record: Readonly<Record<string, string>> | null | undefined): ReadonlyMap<string, string> {
  return new Map(Object.entries(record ?? {}));
}

/** A port has no value: it is there or not. */
function portsOf({ ExposedPorts }: Run): ReadonlyMap<string, string> {
  return new Map(Object.keys(ExposedPorts ?? {}).map(port => [port, '']));
}

function compareMaps(
  field: Difference['field'],
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
): readonly Difference[] {
  const keys = new Set([...after.keys(), ...before.keys()]);
  return [...keys].flatMap(key => {
    const found = compareValues(field, before.get(key), after.get(key));
    return found.map(difference => ({ ...difference, key }));
  });
}

/** A config may say null for what it has not. */
function compareValues(field: Difference['field'], before: Value | null, after: Value | null): readonly Difference[] {
  if (JSON.stringify(before ?? null) === JSON.stringify(after ?? null)) return [];
  return [{ field, ...(before != null && { before }), ...(after != null && { after }) }];
}
