// The same open loop as oha's, by k6: constant arrival rate, latency from the sending of each request.
import http from "k6/http";

export const options = {
  scenarios: {
    load: {
      executor: "constant-arrival-rate",
      rate: Number(__ENV.QPS),
      timeUnit: "1s",
      duration: `${__ENV.SECONDS}s`,
      preAllocatedVUs: 32,
      maxVUs: 64,
    },
  },
  summaryTrendStats: ["med", "p(95)", "p(99)", "count"],
};

export default function () {
  http.get(__ENV.URL);
}

export function handleSummary(data) {
  const trend = data.metrics.http_req_duration.values;
  return {
    [__ENV.RESULT]: JSON.stringify({
      p50: trend.med,
      p95: trend["p(95)"],
      p99: trend["p(99)"],
      qps: data.metrics.http_reqs.values.rate,
      n: data.metrics.http_reqs.values.count,
    }),
  };
}
