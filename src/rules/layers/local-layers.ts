// Layers of this machine: turns a directory or a file into content of the layer store. Anything that changes while it is read is read
// again, so that no layer mixes two states.
import { createHash } from 'node:crypto';
import { realpath, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { z } from 'zod';
import { layerSchema } from '../../augment/augmentation.ts';
import { InvalidLayer } from '../../augment/budget.ts';
import { describeLayer, type LayerLimits } from '../../augment/layer.ts';
import { readFileOf } from '../../builds/context/directory.ts';
import {
  InvalidLayerDirectory,
  type LayerDirectoryLimits,
  listLayer,
  packFiles,
} from '../../builds/context/layer-directory.ts';
import { isDiskFull } from '../../content/free-space.ts';
import { type Digest, encodeDigest } from '../../oci/digest.ts';
import { createCollection } from '../../state/collection.ts';
import type { RecordStore } from '../../state/store.ts';
import type { DescribedLayer, LocalLayer } from '../rules.ts';
import { createDirectoryWatcher, type DirectoryWatcherDeps } from './directory-watcher.ts';
import { type Fingerprint, isUnchanged, takeFingerprint, walkPath } from './fingerprint.ts';
import type { RuleLayerStore } from './layer-store.ts';

/** A layer as of when it was read. */
export interface ReadLayer {
  readonly described: DescribedLayer;
  readonly fingerprint: Fingerprint;
}

export interface LocalLayers {
  /**
   * Throws InvalidLayer, which says what is wrong with the directory or file. A layer that is already in the layer store needs no space.
   */
  read(layer: LocalLayer): Promise<ReadLayer>;
  fingerprint(layer: LocalLayer): Promise<Fingerprint>;
  /** The same, unless no change was reported since the last read: a large directory is not walked every time. */
  currentFingerprint(layer: LocalLayer): Promise<Fingerprint>;
  /** Stops watching. */
  close(): void;
}

const MAX_ENTRIES = 100_000;
const ATTEMPTS = 3;

export function createLocalLayers({
  layerStore,
  limits,
  now,
  onUnwatched,
}: {
  readonly layerStore: Pick<RuleLayerStore, 'put' | 'open' | 'find'>;
  readonly limits: LayerLimits;
  readonly now: () => Date;
  readonly onUnwatched?: DirectoryWatcherDeps['onUnwatched'];
}): LocalLayers {
  const { maxUnpackedBytes } = limits;
  const directoryLimits: LayerDirectoryLimits = { maxBytes: maxUnpackedBytes, maxEntries: MAX_ENTRIES };
  const fingerprint = ({ path }: LocalLayer) => takeFingerprint(resolve(path), now(), directoryLimits);
  const watcher = createDirectoryWatcher({ walk: path => walkPath(path, now(), directoryLimits), onUnwatched });

  async function read(layer: LocalLayer, attempt = 1): Promise<ReadLayer> {
    const before = await fingerprint(layer);
    const [result] = await Promise.allSettled([readNow(layer)]);
    const isSame = (await fingerprint(layer)).value === before.value;
    if (!isSame && attempt < ATTEMPTS) return read(layer, attempt + 1);
    if (!isSame) throw new InvalidLayer(`${layer.path} changes again and again while it is read`);
    if (result.status === 'rejected') throw explain(result.reason, layer.path);
    return { described: result.value, fingerprint: before };
  }

  async function readNow({ kind, path }: LocalLayer): Promise<DescribedLayer> {
    const open = kind === 'directory' ? openDirectory : openFile;
    const { digest, size } = await open(path)
      .then(layerStore.put)
      .catch(async error => {
        const stored = isDiskFull(error) ? await findStored(await open(path)) : undefined;
        if (!stored) throw error;
        return stored;
      });
    const source = { kind: 'shelf' as const, digest, size };
    if (kind === 'directory') return { layer: { digest, size, diffId: digest, compression: 'none' }, source };
    return { layer: await describeStored(digest), source };
  }

  async function findStored(body: ReadableStream<Uint8Array>) {
    const hash = createHash('sha256');
    for await (const chunk of body) hash.update(chunk);
    const digest = encodeDigest('sha256', hash);
    const found = await layerStore.find(digest);
    return found && { digest, size: found.size };
  }

  async function openDirectory(path: string): Promise<ReadableStream<Uint8Array>> {
    const resolved = await realpath(resolve(path));
    if (!(await stat(resolved)).isDirectory())
      throw new InvalidLayer(`${path} is not a directory: use "file" for a tar`);
    const files = await listLayer(resolved, directoryLimits);
    if (files.length === 0) throw new InvalidLayer(`${path} is empty: is a mount missing?`);
    return packFiles(files);
  }

  async function openFile(path: string): Promise<ReadableStream<Uint8Array>> {
    const resolved = await realpath(resolve(path));
    const stats = await stat(resolved);
    if (!stats.isFile()) throw new InvalidLayer(`${path} is not a file: use "directory" for a folder`);
    if (stats.size > maxUnpackedBytes) throw new InvalidLayer(`${path} is larger than ${maxUnpackedBytes} bytes`);
    return ReadableStream.from(
      readFileOf(resolved, stats, () => new InvalidLayer(`${path} changed while it was read`)),
    );
  }

  async function describeStored(digest: Digest) {
    const body = await layerStore.open(digest);
    if (!body) throw new InvalidLayer(`its stored layer was lost meanwhile`);
    return describeLayer(body, { gzipDigest: digest }, limits);
  }

  return {
    read: layer => read(layer),
    fingerprint,
    currentFingerprint: ({ path }) => watcher.fingerprint(resolve(path)),
    close: watcher.close,
  };
}

/** Errors of a file are reported with its path; internal errors are rethrown. */
function explain(cause: unknown, path: string): unknown {
  if (cause instanceof InvalidLayerDirectory) return new InvalidLayer(cause.message, { cause });
  if (cause instanceof InvalidLayer)
    return cause.message.includes(path) ? cause : new InvalidLayer(`${path}: ${cause.message}`, { cause });
  if (!(cause instanceof Error && 'code' in cause && 'syscall' in cause)) return cause;
  if (cause.code === 'ENOENT') return new InvalidLayer(describeMissing(path), { cause });
  return new InvalidLayer(`cannot read ${'path' in cause ? cause.path : path} (${cause.code})`, { cause });
}

/** With the place where a relative path was looked for. */
export function describeMissing(path: string): string {
  const place = resolve(path);
  return `there is no ${path}${place === path ? '' : ` (${place})`}`;
}

// Remembers across restarts what was read from directories and files of this machine: unchanged ones are not read again.

export interface ReadCache {
  /** Undefined where it was not read in its current state, or is no longer in the layer store. */
  find(layer: LocalLayer, seen: Fingerprint): Promise<ReadLayer | undefined>;
  /** Does nothing for files that may change unnoticed, or while records cannot be written. */
  keep(layer: LocalLayer, read: ReadLayer): Promise<void>;
}

/** Undefined for a record in a format that this version does not know. */
const readSchema = z.object({ fingerprint: z.string(), layer: layerSchema }).optional().catch(undefined);

/** Afterwards, a start reads it once more. */
const KEEP_MS = 30 * 86_400_000;

export function createReadCache({
  records,
  layerStore,
  now,
}: {
  readonly records: RecordStore;
  readonly layerStore: Pick<RuleLayerStore, 'find'>;
  readonly now: () => Date;
}): ReadCache {
  const reads = createCollection({ store: records, name: 'rule-read', schema: readSchema });
  const keyOf = ({ kind, path }: LocalLayer) => `${kind} ${resolve(path)}`;
  return {
    async find(layer, seen) {
      // An unreadable record counts as none: the layer can be reread.
      const cached = await reads.get(keyOf(layer)).catch(() => undefined);
      if (!cached || !isUnchanged({ value: cached.fingerprint, isSettled: true }, seen)) return undefined;
      const { digest, size } = cached.layer;
      if (!(await layerStore.find(digest))) return undefined;
      return { described: { layer: cached.layer, source: { kind: 'shelf', digest, size } }, fingerprint: seen };
    },
    async keep(layer, { described, fingerprint }) {
      if (!fingerprint.isSettled) return;
      const expiresAt = new Date(now().getTime() + KEEP_MS);
      const record = { fingerprint: fingerprint.value, layer: described.layer };
      // Anything forgotten is reread: no reason to fail.
      await reads.put(keyOf(layer), record, { expiresAt }).catch(() => {});
    },
  };
}
