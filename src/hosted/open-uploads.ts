// How many uploads are open in each repository. Each is a file and a record until it ends or times out: without a limit, whoever may push
// could fill the disk with empty ones.
import { RegistryError } from '../oci/errors.ts';
import { type HostedRecords, keysOf } from './records.ts';

interface OpenUploads {
  /** Counts an upload that is about to begin. Throws TOOMANYREQUESTS where its repository has too many. */
  add(id: string, repository: string): Promise<void>;
  /** An upload is over, and its record is gone. */
  remove(id: string): Promise<void>;
}

export function createOpenUploads({ uploads }: HostedRecords, max: number): OpenUploads {
  const repositories = new Map<string, string>();
  const counts = new Map<string, number>();
  let counted: Promise<void> | undefined;

  function count(id: string, repository: string, step: 1 | -1): void {
    if (step === 1) repositories.set(id, repository);
    else repositories.delete(id);
    counts.set(repository, (counts.get(repository) ?? 0) + step);
    if (counts.get(repository) === 0) counts.delete(repository);
  }

  /** Those of an earlier process. */
  async function countRecords(): Promise<void> {
    for await (const id of keysOf(uploads, '')) {
      const record = await uploads.find(id);
      if (record && !repositories.has(id)) count(id, record.repository, 1);
    }
  }

  async function untilCounted(): Promise<void> {
    counted ??= countRecords().catch(error => {
      counted = undefined;
      throw error;
    });
    await counted;
  }

  return {
    async add(id, repository) {
      await untilCounted();
      if ((counts.get(repository) ?? 0) >= max) {
        const message = `${repository} has ${max} uploads under way: finish or cancel some of them, or wait until they time out`;
        throw new RegistryError('TOOMANYREQUESTS', message);
      }
      count(id, repository, 1);
    },
    async remove(id) {
      await counted?.catch(() => {});
      const repository = repositories.get(id);
      if (repository !== undefined) count(id, repository, -1);
    },
  };
}
