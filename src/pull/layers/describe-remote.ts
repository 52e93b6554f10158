// Layers of rules that are not on this machine, as the pull's own ways find them.
import type { DescribeRemote } from '../../rules/rules.ts';
import type { ReadIncludes } from './includes.ts';
import type { DescribeWanted } from './wanted-layer.ts';

interface DescribeRemoteDeps {
  readonly describeWanted: DescribeWanted;
  readonly readIncludes: ReadIncludes;
}

export function createDescribeRemote({ describeWanted, readIncludes }: DescribeRemoteDeps): DescribeRemote {
  return async layer => {
    switch (layer.kind) {
      case 'url':
        return [await describeWanted({ location: layer.url, gzipDigest: layer.digest })];
      case 'blob':
        return [await describeWanted({ location: layer.location })];
      case 'image':
        return readIncludes(layer.image);
    }
  };
}
