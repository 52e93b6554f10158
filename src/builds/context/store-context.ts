// A build context from any source to its canonical tar in a content store: equal files have equal digests, however they were packed.
import type { ContentStore } from '../../content/store.ts';
import type { Digest } from '../../oci/digest.ts';
import { readDirectory } from './directory.ts';
import { encodeTar } from './encode-tar.ts';
import { type ContextLimits, DEFAULT_CONTEXT_LIMITS } from './limits.ts';
import { readTar } from './read-tar.ts';
import { createSpool } from './spool.ts';
import { createTree, type ReadonlyTree } from './tree.ts';

export type ContextSource =
  /** A tar, plain or packed with gzip or zstd. The stream is read to its end or cancelled. */
  | { readonly kind: 'tar'; readonly open: () => Promise<ReadableStream<Uint8Array>> }
  /** The texts of files by their names. */
  | { readonly kind: 'files'; readonly files: Readonly<Record<string, string>> }
  /** A directory of this machine. */
  | DirectorySource;

interface DirectorySource {
  readonly kind: 'directory';
  readonly path: string;
  /** The name of the Containerfile in it, for the ignore file of its own. */
  readonly containerFile?: string | undefined;
}

interface StoreContextOptions {
  readonly limits?: ContextLimits | undefined;
  /** Where a tar is unpacked on its way; default: the system's. */
  readonly temporaryDirectory?: string | undefined;
}

/** Throws InvalidContext, or the error of the source's stream or of the store. */
export async function storeContext(
  source: ContextSource,
  content: Pick<ContentStore, 'ingest'>,
  { limits = DEFAULT_CONTEXT_LIMITS, temporaryDirectory }: StoreContextOptions = {},
): Promise<{ readonly digest: Digest; readonly size: number }> {
  const keep = async (tree: ReadonlyTree) => await content.ingest(encodeTar(tree)).done;
  switch (source.kind) {
    case 'files':
      return keep(treeOfTexts(source.files, limits));
    case 'directory':
      return keep(await readDirectory(source.path, { limits, containerFile: source.containerFile }));
    case 'tar': {
      const spool = await createSpool(temporaryDirectory);
      try {
        return await keep(await readTar(await source.open(), spool, limits));
      } finally {
        await spool.close();
      }
    }
  }
}

function treeOfTexts(files: Readonly<Record<string, string>>, limits: ContextLimits): ReadonlyTree {
  const tree = createTree(limits);
  for (const [name, text] of Object.entries(files)) {
    const bytes = Buffer.from(text);
    tree.add(name, { kind: 'file', mode: 0o644, size: bytes.byteLength, open: () => streamOf(bytes) });
  }
  return tree;
}

async function* streamOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
