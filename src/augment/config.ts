// Rewriting an image config: what a container runs with, and the list of its layers. image-spec config.md.
import { RegistryError } from '../oci/errors.ts';
import { parseImageConfig } from '../oci/image-config.ts';
import type { Augmentation, Layer } from './augmentation.ts';
import { encodeObject, isObject, type JsonObject, listIn, objectIn, parseObject } from './document.ts';

/** The name under which a replaced entrypoint stays known to the one that replaces it. */
const ENTRY_CHAIN = 'WAVE_ENTRY_CHAIN';

/** The time of our history entries where the source has none: a clock would give other bytes each time. */
const EPOCH = '1970-01-01T00:00:00Z';

/**
 * The config with the augmentation's changes, and with `layers` on top of its own. The bytes given, when nothing changes.
 * Throws MANIFEST_INVALID when `raw` is no image config.
 */
export function augmentConfig(raw: Uint8Array, augmentation: Augmentation, layers: readonly Layer[]): Uint8Array {
  parseImageConfig(raw);
  const changesConfig = changesRun(augmentation);
  if (!changesConfig && layers.length === 0) return raw;
  const source = parseObject(raw);
  return encodeObject({
    ...source,
    ...(changesConfig && { config: augmentRun(objectIn(source, 'config'), augmentation) }),
    ...(layers.length > 0 && { rootfs: extendRootfs(objectIn(source, 'rootfs'), layers) }),
    ...extendHistory(source, layers.length, changesConfig),
  });
}

/** Throws MANIFEST_INVALID unless the config names as many diffIDs as its manifest has layers: on top of that nothing can be put. */
export function checkLayerCount(raw: Uint8Array, count: number): void {
  const diffIds = parseImageConfig(raw).rootfs.diff_ids?.length ?? 0;
  if (diffIds === count) return;
  throw new RegistryError(
    'MANIFEST_INVALID',
    `the image cannot be augmented: its config has ${diffIds} diff_ids, but its manifest ${count} layers`,
  );
}

function changesRun(augmentation: Augmentation): boolean {
  const { platforms, layers, annotations, attestations, ...changes } = augmentation;
  return Object.values(changes).some(change => change !== undefined);
}

function augmentRun(run: JsonObject, augmentation: Augmentation): JsonObject {
  const { entrypoint, cmd, workingDir, user, labels, exposedPorts } = augmentation;
  const env = { ...entryChain(run, augmentation), ...augmentation.env };
  return {
    ...run,
    ...(Object.keys(env).length > 0 && { Env: overrideEnv(listIn(run, 'Env'), env) }),
    ...(entrypoint && { Entrypoint: entrypoint }),
    ...(cmd && { Cmd: cmd }),
    ...(workingDir !== undefined && { WorkingDir: workingDir }),
    ...(user !== undefined && { User: user }),
    ...(labels && { Labels: { ...objectIn(run, 'Labels'), ...labels } }),
    ...(exposedPorts && { ExposedPorts: addPorts(objectIn(run, 'ExposedPorts'), exposedPorts) }),
  };
}

function entryChain(run: JsonObject, { entrypoint }: Augmentation): Record<string, string> {
  const replaced = listIn(run, 'Entrypoint');
  if (!entrypoint || replaced.length === 0) return {};
  return { [ENTRY_CHAIN]: replaced.length === 1 ? String(replaced[0]) : JSON.stringify(replaced) };
}

function overrideEnv(source: readonly unknown[], env: Readonly<Record<string, string>>): readonly unknown[] {
  const nameOf = (entry: unknown) => String(entry).split('=', 1)[0] ?? '';
  const present = new Set(source.map(nameOf));
  const overridden = source.map(entry => {
    const name = nameOf(entry);
    return Object.hasOwn(env, name) ? `${name}=${env[name]}` : entry;
  });
  const added = Object.entries(env).filter(([name]) => !present.has(name));
  return [...overridden, ...added.map(([name, value]) => `${name}=${value}`)];
}

function addPorts(source: JsonObject, ports: readonly string[]): JsonObject {
  const added = ports.filter(port => !Object.hasOwn(source, port));
  return { ...source, ...Object.fromEntries(added.map(port => [port, {}])) };
}

function extendRootfs(rootfs: JsonObject, layers: readonly Layer[]): JsonObject {
  return { ...rootfs, diff_ids: [...listIn(rootfs, 'diff_ids'), ...layers.map(layer => layer.diffId)] };
}

/** A source that has layers but tells no history stays without: entries for some layers only would be taken for the lowest ones. */
function extendHistory(source: JsonObject, layerCount: number, changesConfig: boolean): JsonObject {
  const history = listIn(source, 'history');
  const hasLayers = listIn(objectIn(source, 'rootfs'), 'diff_ids').length > 0;
  if (hasLayers && !history.some(entry => isObject(entry) && entry.empty_layer !== true)) return {};
  const created = typeof source.created === 'string' ? source.created : EPOCH;
  const entry = { created, created_by: 'veneer' };
  const added = Array.from({ length: layerCount }, () => ({ ...entry, comment: 'layer' }));
  const config = changesConfig ? [{ ...entry, comment: 'config', empty_layer: true }] : [];
  return { history: [...history, ...added, ...config] };
}
