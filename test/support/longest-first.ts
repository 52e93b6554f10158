// The order of test files on a machine that has not run them yet, where Vitest goes by their sizes: a long file that begins last would keep one
// worker busy while the others have nothing left to do.
import { relative } from 'node:path';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** The longest files of each project, the longest first. */
const LONG = [
  'test/regular-expressions.test.ts',
  'test/hosted/gc/model.test.ts',
  'test/main.test.ts',
  'test/clients/mirror-faults.test.ts',
  'test/clients/rules-docker.test.ts',
  'test/clients/documents.test.ts',
  'test/clients/build-embedded.test.ts',
  'test/clients/console.test.ts',
  'test/clients/fleet.test.ts',
  'test/clients/rules-podman.test.ts',
  'test/clients/s3-service.test.ts',
  'test/clients/image.test.ts',
  'test/clients/prompt.test.ts',
  'test/clients/rules-containerd.test.ts',
  'test/faults/crash-loop.test.ts',
  'test/faults/start.test.ts',
  'test/faults/drips.test.ts',
  'test/clients/s3-replicas.test.ts',
  'test/clients/build-hold.test.ts',
  'test/faults/threads.test.ts',
  'test/clients/build-kubernetes.test.ts',
  'test/faults/full-disk.test.ts',
];

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const projects = [...new Set(sorted.map(({ project }) => project))];
    const rankOf = ({ moduleId, project }: TestSpecification) => {
      const at = LONG.indexOf(relative(project.config.root, moduleId));
      return projects.indexOf(project) * (LONG.length + 1) + (at === -1 ? LONG.length : at);
    };
    return sorted.sort((a, b) => rankOf(a) - rankOf(b));
  }
}
